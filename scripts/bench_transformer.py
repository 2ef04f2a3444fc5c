"""Steps of the small transformers through the engine, against loops written by hand."""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from measuring import Timed, in_turns, kept, own_clock, ratios, repeated, say
from torch import Tensor, nn

from lth_runner.masking import Static
from lth_runner.problem import models
from lth_runner.problem.data import Characters, Data, corpus
from lth_runner.problem.objective import NextToken
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training import Cosine
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe
from lth_runner.values.seeds import stream

BATCH, LENGTH, STEPS, VOCABULARY = 32, 32, 20, 4000
RECIPE = Recipe(
    "5000it", BATCH, functools.partial(torch.optim.AdamW, lr=1e-3, fused=True),
    learning_rate=Cosine(), warmup="10%", decay="weights", eval_every="5000it",
)  # fmt: skip
Forward = Callable[[nn.Module, Tensor], Tensor]  # the loss of the samples of these numbers


def sentences() -> Data:
    """Random token numbers in texts of random length."""
    rng = stream(0, "sentences")
    tokens = torch.randint(VOCABULARY, (7000, LENGTH), generator=rng)
    lengths = torch.randint(5, LENGTH + 1, (7000, 1), generator=rng)
    inputs = {"input_ids": tokens, "attention_mask": (torch.arange(LENGTH) < lengths).long()}
    split = inputs, torch.arange(7000) % 2
    return Data.from_tensors(split, split, validation=100)


def hand_written(task: Task, loss: Forward, num: int) -> Timed:
    """The least that does the same: samples, forward, backward, learning rate, AdamW, mask."""
    model = task.model()
    mask = {name: k.float() for name, k in kept(task, 0.5).items()}
    weights = [model.get_parameter(name).data for name in mask]
    torch._foreach_mul_(weights, list(mask.values()))
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in parameters if p.ndim > 1]},
         {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}],
        lr=1e-3, fused=True,
    )  # fmt: skip
    batches = torch.randperm(num).split(BATCH)[:-1]
    done = 0

    def step() -> None:
        nonlocal done
        for group in optimizer.param_groups:
            group["lr"] = 5e-4 * (1 + math.cos(math.pi * done / 5000)) * min(1, (done + 1) / 500)
        optimizer.zero_grad()
        loss(model, batches[done % len(batches)]).backward()
        optimizer.step()
        torch._foreach_mul_(weights, list(mask.values()))
        done += 1

    return step


def classifier() -> tuple[Task, Timed]:
    factory = functools.partial(
        models.transformer_classifier, vocabulary=VOCABULARY, length=LENGTH, num_classes=2
    )
    task = Task(factory, sentences().to("cpu"))
    inputs, labels = task.data.train

    def loss(model: nn.Module, index: Tensor) -> Tensor:
        batch = {name: value.index_select(0, index) for name, value in inputs.items()}
        return F.cross_entropy(model(**batch), labels.index_select(0, index))

    return task, hand_written(task, loss, len(labels))


def language_model(folder: Path) -> tuple[Task, Timed]:
    data = corpus(
        length=LENGTH, vocabulary=128, tokenizer=Characters(128), cache=str(folder)
    ).to("cpu")  # fmt: skip
    factory = functools.partial(models.causal_transformer, vocabulary=128, length=LENGTH)
    task = Task(factory, data, objective=NextToken())
    inputs, targets = data.train.take(torch.arange(len(data.train)), stream(0, "all"))

    def loss(model: nn.Module, index: Tensor) -> Tensor:
        logits = model(inputs.index_select(0, index))
        return F.cross_entropy(logits.flatten(0, 1), targets.index_select(0, index).flatten())

    return task, hand_written(task, loss, len(targets))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for label, (task, by_hand) in (
            ("classifier of sentences", classifier()),
            ("language model of characters", language_model(Path(folder))),
        ):
            job = Job(task, Ticket(kept(task, 0.5), task.init()), Static())
            together = Sequential().begin([job], RECIPE, [None])
            with RECIPE.arithmetic(torch.device("cpu")):
                times = in_turns({
                    "hand": repeated(by_hand, STEPS), "engine": repeated(together.advance, STEPS),
                }, repeats=15, clock=own_clock())  # fmt: skip
            say(f"{label}, hand-written step", [1e3 * t / STEPS for t in times["hand"]], "ms")
            found = ratios(times["engine"], times["hand"])
            say("sequential engine / hand-written", found, "x")
            print(f"    {len(found)} turns, {min(found):.3f} to {max(found):.3f}", flush=True)


if __name__ == "__main__":
    main()
