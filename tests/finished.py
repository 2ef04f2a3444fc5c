"""A finished training as probes see it, of given weights, and small networks to look into."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import nn

from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step


@dataclass(frozen=True)
class Finished:
    """Trained from ``ticket`` to ``weights``; ``between`` holds snapshots on the way."""

    ticket: Ticket
    weights: State
    clock: Clock = field(default_factory=lambda: Clock(10, 40))
    between: Mapping[Step, State] = field(default_factory=dict)
    kept: dict[str, State] = field(default_factory=dict)

    @property
    def mask(self) -> Mask:
        return self.ticket.mask

    def at(self, step: Step) -> State:
        return self.between[step]

    def derived(self, name: str, compute: Callable[[], State]) -> State:
        if name not in self.kept:
            self.kept[name] = compute()
        return self.kept[name]


def unchanged(mask: Mask, weights: State) -> Finished:
    """A training that moved nothing."""
    return Finished(Ticket(mask, weights), mask(weights))


def vectors(*, size: int, num_classes: int, num: int = 64) -> Data:
    """Normal inputs with labels in turn."""
    inputs = torch.randn(num, size, generator=stream(0, "vectors"))
    labels = torch.arange(num) % num_classes
    return Data.from_tensors(
        (inputs, labels), (inputs[:16], labels[:16]), validation=0, num_classes=num_classes
    )


def chain(*sizes: int, bias: bool = False, last: bool = False) -> nn.Module:
    """Linear layers 0, 2, 4, ... with ReLU between them; ``last``: after the last one too."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias=bias), nn.ReLU()]
    return nn.Sequential(*(layers if last else layers[:-1]))


def chain_task(*sizes: int, bias: bool = False, last: bool = False, num: int = 64) -> Task:
    data = vectors(size=sizes[0], num_classes=sizes[-1], num=num)
    return Task(lambda: chain(*sizes, bias=bias, last=last), data)


def normal(task: Task, weight_variance: float, seed: int = 0) -> State:
    """Weights of variance weight_variance / fan_in, and no biases."""
    return {
        name: torch.zeros_like(value)
        if value.dim() < 2
        else torch.randn(value.shape, generator=stream(seed, "normal", name))
        * (weight_variance / value[0].numel()) ** 0.5
        for name, value in task.init().items()
    }


def random_mask(task: Task, density: float, seed: int = 0) -> Mask:
    return Mask(
        {
            name: torch.rand(kept.shape, generator=stream(seed, "mask", name)) < density
            for name, kept in task.dense().items()
        }
    )
