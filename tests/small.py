"""Small problems that the tests share."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
from torch import nn

from lth_runner.allocate import Global
from lth_runner.masking import Static
from lth_runner.problem import models
from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.schedule import Geometric
from lth_runner.score import Magnitude
from lth_runner.search import Iterative
from lth_runner.search.rewind import Rewind
from lth_runner.store.store import Store
from lth_runner.training.job import Job, Slot
from lth_runner.training.recipe import Recipe
from lth_runner.training.trainer import Trainer
from lth_runner.values.seeds import stream


def blobs(*, num: int = 96, size: int = 4, classes: int = 3) -> Data:
    """Three noisy prototypes of 1x4x4 images: learnable in some dozens of steps."""
    prototypes = torch.randn(classes, 1, size, size, generator=stream(0, "prototypes"))

    def draw(count: int, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.arange(count) % classes
        noise = torch.randn(count, 1, size, size, generator=stream(0, name))
        return prototypes[labels] + 0.5 * noise, labels

    return Data.from_tensors(draw(num, "train"), draw(48, "test"), validation=24)


def perceptron() -> nn.Module:
    return models.mlp(shape=(1, 4, 4), num_classes=3, widths=(12,), init="kaiming_normal")


def convolutional() -> nn.Module:
    """Convolution, batch norm and a linear layer: buffers, norms and channels-last."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 3),
    )


def task(*, seed: int = 0, model: object = perceptron) -> Task:
    return Task(model, blobs(), seed)  # type: ignore[arg-type]


def recipe(**changes: object) -> Recipe:
    plain = {
        "length": "40it",
        "batch_size": 12,
        "optimizer": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3),
        "eval_every": "10it",
    }
    return Recipe(**{**plain, **changes})  # type: ignore[arg-type]


def imp(*, rounds: int = 3, **rewind: object) -> Iterative:
    return Iterative(Magnitude(), Global(), Geometric(rate=0.3, rounds=rounds), Rewind(**rewind))  # type: ignore[arg-type]


def dense_job(problem: Task, **changes: object) -> Job:
    search = imp()
    ticket = search.propose(problem, [])
    assert ticket is not None
    return Job(problem, ticket, Static(), Slot(0), **changes)  # type: ignore[arg-type]


def trainer(folder: Path, **changes: object) -> Trainer:
    plain = {"recipe": recipe(), "store": Store(folder)}
    return Trainer(**{**plain, **changes})  # type: ignore[arg-type]
