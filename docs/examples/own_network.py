"""Winning tickets of a network of your own, from Python: no config, no command line.

python docs/examples/own_network.py [FOLDER]     results in FOLDER, outputs/own_network by default
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lth_runner.allocate import Global
from lth_runner.cli.environment import environment
from lth_runner.control import Reinit
from lth_runner.experiment import Experiment, run
from lth_runner.masking import Static
from lth_runner.probe import Performance, Signs
from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.runs.record import Record, RunDescription, RunFolder, problem_facts
from lth_runner.runs.report import write
from lth_runner.schedule import Geometric
from lth_runner.score import Magnitude
from lth_runner.search import Iterative
from lth_runner.search.rewind import Rewind
from lth_runner.store.store import Store
from lth_runner.store.ticket_file import load_ticket
from lth_runner.training.recipe import Recipe
from lth_runner.training.trainer import Trainer


class Net(nn.Module):
    """Any module that answers a batch of inputs with a batch of logits."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.hidden = nn.Linear(64, width)
        self.output = nn.Linear(width, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.output(self.hidden(inputs.flatten(1)).relu())


def digits() -> Data:
    """Any tensors, or any loader of (inputs, labels) batches."""
    loaded = load_digits()
    images = torch.tensor(loaded.images).float() / 16
    labels = torch.tensor(loaded.target)
    test = DataLoader(TensorDataset(images[1500:], labels[1500:]), batch_size=100)
    train = DataLoader(TensorDataset(images[:1500], labels[:1500]), batch_size=100)
    return Data.from_loaders(train=train, test=test, validation=0.1)


def main(folder: Path) -> None:
    torch.set_num_threads(1)  # so small a network is quicker with one
    factory = functools.partial(Net, width=48)  # a class or a partial; a lambda has no name
    tasks = [Task(factory, digits(), seed) for seed in (0, 1)]
    search = Iterative(
        Magnitude(), Global(), Geometric(sparsity=0.9, rounds=3), Rewind(step="20it")
    )
    recipe = Recipe(
        length="10ep",
        batch_size=50,
        optimizer=functools.partial(torch.optim.SGD, lr=0.2, momentum=0.9),
    )
    experiment = Experiment(
        tasks, search, Static(), controls={"reinit": Reinit()}, probes=[Performance(), Signs()]
    )
    trainer = Trainer(recipe, Store(folder / "store"))
    # refuses now what would fail later
    search.check(tasks[0], trainer.clock(tasks[0]), recipe.rate)

    record = record_in(folder, tasks[0], search.num_rounds, trainer.clock(tasks[0]).total)
    rounds = run(experiment, trainer, record)
    record.close("done")

    for trained in rounds[0]:  # the ticket arm of seed 0, the dense network first
        accuracy = tasks[0].evaluate(trained.weights, "test")["accuracy"]
        print(f"{trained.mask.density:7.2%} kept: test accuracy {accuracy:.3f}")

    net = Net(width=48)  # a plain module again
    mask = load_ticket(folder / "tickets" / "round-03.safetensors", net)
    zeros = sum(int((value == 0).sum()) for value in (net.hidden.weight, net.output.weight))
    print(f"round-03 in a plain module: {mask.num_kept} weights kept, {zeros} are zero")


def record_in(folder: Path, task: Task, num_rounds: int, num_steps: int) -> Record:
    """rounds.jsonl, tickets/ and curve.png in a folder; Record([]) writes nothing."""
    num_trainings = 2 * (1 + 2 * (num_rounds - 1))  # two seeds; two arms from round 1 on
    sink = RunFolder(draw=write)
    described = RunDescription(
        name="own_network",
        run_id="",
        folder=folder,
        config={"name": "own_network", "seed": 0, "replicates": 2, "report": {"tolerance": 0.01}},
        environment=environment("cpu"),
        command="python docs/examples/own_network.py",
        probes="accuracy, signs",
        num_rounds=num_rounds,
        num_trainings=num_trainings,
        num_steps=num_trainings * num_steps,
        problem=problem_facts(task),
    )
    done = sink.done(described)
    sink.open(described)
    return Record([sink], done)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/own_network"))
