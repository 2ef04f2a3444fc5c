"""Problems small enough to derive by hand, and some of the real shapes."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from lth_runner.problem import models
from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.state import State

NUM = 3
INPUTS = torch.tensor([[1.0, 2.0], [2.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 1, 0])


def two_layers() -> nn.Module:
    """2 -> 2 (ReLU) -> 2 without biases."""
    return nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 2, bias=False))


def with_tanh() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2, bias=False), nn.Tanh(), nn.Linear(2, 2, bias=False))


def three_samples(model: Callable[[], nn.Module] = two_layers) -> Task:
    split = (INPUTS.float(), LABELS)
    return Task(model, Data.from_tensors(split, split, validation=0))


HAND = {
    "0.weight": torch.tensor([[1.0, 0.5], [-0.25, 0.75]], dtype=torch.float64),
    "2.weight": torch.tensor([[0.6, -0.4], [-0.2, 0.9]], dtype=torch.float64),
}


def half_mask() -> Mask:
    return Mask(
        {
            "0.weight": torch.tensor([[True, True], [False, True]]),
            "2.weight": torch.tensor([[True, False], [True, True]]),
        }
    )


def by_hand(weights: State, inputs: Tensor = INPUTS, labels: Tensor = LABELS) -> State:
    """The gradient of the mean cross-entropy of ``two_layers``, by the chain rule."""
    before = inputs @ weights["0.weight"].T
    hidden = before.clamp(min=0)
    logits = hidden @ weights["2.weight"].T
    error = (logits.softmax(1) - torch.eye(2, dtype=logits.dtype)[labels]) / len(labels)
    back = (error @ weights["2.weight"]) * (before > 0)
    return {"0.weight": back.T @ inputs, "2.weight": error.T @ hidden}


def plain_loss(weights: State) -> Tensor:
    """The mean cross-entropy of ``two_layers`` on the three samples."""
    hidden = (INPUTS @ weights["0.weight"].T).clamp(min=0)
    return nn.functional.cross_entropy(hidden @ weights["2.weight"].T, LABELS)


def flat(scores: State) -> Tensor:
    return torch.cat([value.reshape(-1) for value in scores.values()])


def doubles(state: State) -> State:
    return {n: v.double() if v.is_floating_point() else v for n, v in state.items()}


def images(name: str = "images", *, classes: int = 3, num: int = 60) -> Data:
    inputs = torch.randn(num, 2, 8, 8, generator=stream(0, name))
    split = (inputs, torch.arange(num) % classes)
    return Data.from_tensors(split, split, validation=0)


SHAPE = {"shape": (2, 8, 8), "num_classes": 3}
MODELS = {
    "mlp": functools.partial(models.mlp, **SHAPE, widths=(12, 10), init="kaiming_normal"),
    "resnet": functools.partial(models.resnet_cifar, **SHAPE, depth=8, width=4, gamma="uniform"),
}


@functools.cache
def task(model: str, *, seed: int = 0, data: str = "images") -> Task:
    return Task(MODELS[model], images(data), seed)


def some_mask(problem: Task, density: float = 0.6) -> Mask:
    return Mask(
        {
            n: torch.rand(kept.shape, generator=stream(1, n)) < density
            for n, kept in problem.dense().items()
        }
    )
