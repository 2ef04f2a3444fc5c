"""Steps of this program and of OpenLTH, in turns in one process.

    OPEN_LTH=<folder of a clone of facebookresearch/open_lth> make bench ARGS=open_lth

Both train the same networks on as many images, in batches of the same size, by the same rule,
with half of the weights masked and the same augmentation. OpenLTH goes through its own loader and
its own loop (`training.train.train`), as its command line does; what of that the arithmetic takes
is told beside it.
"""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch
from bench_convolution import BATCH, RESNET, SGD, engine_step
from measuring import ADAM, LENET, Timed, images, in_turns, jobs, own_clock, ratios, repeated, say

from lth_runner.problem.data import Data
from lth_runner.problem.data.augmentation import FlipCrop
from lth_runner.problem.task import Task
from lth_runner.training.engines.packed import Sparse
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.recipe import Recipe

NUM = 6_000  # images


def main() -> None:
    """LeNet-300-100 one by one and eight packed, ResNet-20 in fp32 and bf16, against OpenLTH."""
    folder = os.environ.get("OPEN_LTH")
    if not folder:
        print("  left out: set OPEN_LTH to the folder of a clone of facebookresearch/open_lth")
        return
    sys.path.insert(0, folder)  # its packages are top-level ones
    # its code is of 2020: NumPy 2 has no product any more, and its wrapper for several GPUs, which
    # nothing here uses, cannot be declared with today's torch
    np.product = np.prod
    with mock.patch.object(torch.nn.parallel, "DistributedDataParallel", type("_", (), {})):
        importlib.import_module("cli.runner_registry")
    platform = importlib.import_module("platforms.local").Platform()
    importlib.import_module("platforms.platform")._PLATFORM = platform
    _lenet()
    _resnet()


def _lenet() -> None:
    task = Task(LENET, images(NUM, (1, 28, 28)).to("cpu"))
    alone = Sequential().begin(jobs(task, 1), ADAM, [None])
    packed = Sparse(16, below=0.0).begin(jobs(task, 8), ADAM, [None] * 8)
    theirs = _Theirs("mnist_lenet", "mnist", 60, {"optimizer_name": "adam", "lr": 1.2e-3})
    _compare("LeNet-300-100, batch 60", theirs, 48, {
        "one by one": (repeated(alone.advance, 48), 48),
        "eight packed": (repeated(packed.advance, 24), 192),
    })  # fmt: skip


def _resnet() -> None:
    data = images(NUM, (3, 32, 32))
    moved = Data.from_tensors(data.train, data.test, data.val, augment=FlipCrop(flip=True, crop=4))
    task = Task(RESNET, moved.to("cpu"))
    rule = {"optimizer_name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    theirs = _Theirs("cifar_resnet", "cifar10", BATCH, rule)
    _compare("ResNet-20, batch 128", theirs, 2, {
        "fp32": (repeated(engine_step(task, Recipe("9999it", BATCH, SGD)), 2), 2),
        "bf16": (repeated(engine_step(task, Recipe("9999it", BATCH, SGD, precision="bf16")), 2), 2),
    })  # fmt: skip


class _Theirs:
    """OpenLTH's own objects: a pruned model, its loader and its training."""

    def __init__(self, model: str, dataset: str, batch: int, training: dict[str, Any]) -> None:
        module = importlib.import_module
        described = module(f"models.{model}").Model.default_hparams()
        hparams = described.training_hparams
        hparams.training_steps = "999ep"
        for name, value in training.items():
            setattr(hparams, name, value)
        self.hparams = hparams
        network = module("models.registry").get(described.model_hparams, outputs=10)
        mask = module("pruning.mask").Mask.ones_like(network)
        for name in mask:
            mask[name] = (torch.rand(mask[name].shape) < 0.5).float()
        self.model = module("pruning.pruned_model").PrunedModel(network, mask)
        of = module(f"datasets.{dataset}")
        self.loader = of.DataLoader(_dataset(of, dataset), batch_size=batch, num_workers=0)
        self.batch = next(iter(self.loader))
        self.optimizer = module("training.optimizers").get_optimizer(hparams, self.model)
        self.train = module("training.train").train
        self.step = module("foundations.step").Step

    def steps(self, num: int) -> Timed:
        """So many steps of its loop, from a start of it; nothing is saved or measured."""
        end = self.step.from_iteration(num, len(self.loader))

        def many() -> None:
            with tempfile.TemporaryDirectory() as folder:
                self.train(self.hparams, self.model, self.loader, folder, end_step=end)

        return many

    def arithmetic(self) -> None:
        """A step on a batch that is at hand: what its loop does but for loading."""
        examples, labels = self.batch
        self.optimizer.zero_grad()
        self.model.train()
        self.model.loss_criterion(self.model(examples), labels).backward()
        self.optimizer.step()


def _dataset(of: Any, dataset: str) -> Any:
    draw = np.random.RandomState(0)
    labels = draw.randint(0, 10, NUM)
    if dataset == "mnist":
        pixels = draw.randint(0, 256, (NUM, 28, 28), dtype=np.uint8)
        return of.Dataset(torch.from_numpy(pixels), torch.from_numpy(labels).numpy())
    transforms = importlib.import_module("torchvision.transforms")
    pixels = draw.randint(0, 256, (NUM, 32, 32, 3), dtype=np.uint8)
    moves = [transforms.RandomHorizontalFlip(), transforms.RandomCrop(32, 4)]
    return of.Dataset(pixels, labels, moves)


def _compare(
    label: str, theirs: _Theirs, num: int, ours: dict[str, tuple[Callable[[], object], int]]
) -> None:
    things: dict[str, Timed] = {name: thing for name, (thing, _) in ours.items()}
    things["theirs"] = theirs.steps(num)
    things["arithmetic"] = repeated(theirs.arithmetic, num)
    times = in_turns(things, repeats=9, clock=own_clock())
    for name in ("theirs", "arithmetic"):
        text = "a step" if name == "theirs" else "of it the arithmetic"
        say(f"{label}: OpenLTH, {text}", [1e3 * t / num for t in times[name]], "ms")
    for name, (_, steps) in ours.items():
        found = [t / steps for t in times[name]]
        say(f"{label}: {name}, a step", [1e3 * t for t in found], "ms")
        for peer, text in (("theirs", "OpenLTH"), ("arithmetic", "its arithmetic alone")):
            against = ratios([t / num for t in times[peer]], found)
            say(f"{label}: {name}, faster than {text}", against, "x")


if __name__ == "__main__":
    main()
