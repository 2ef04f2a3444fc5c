"""A small problem and made-up trainings, for what lies between trainings."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.values import state as states
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Duration, Step

CLOCK = Clock.of(Duration.parse("10ep"), epoch=50)


def network() -> nn.Module:
    """6 -> 9 (batch norm) -> 3: 81 prunable weights."""
    layers = OrderedDict(
        hidden=nn.Linear(6, 9, bias=False),
        norm=nn.BatchNorm1d(9),
        relu=nn.ReLU(),
        output=nn.Linear(9, 3),
    )
    return nn.Sequential(layers)


@functools.cache
def data() -> Data:
    inputs = torch.randn(60, 6, generator=stream(0, "inputs"))
    labels = torch.arange(60) % 3
    return Data.from_tensors((inputs[:40], labels[:40]), (inputs[40:], labels[40:]), validation=5)


def small_task(seed: int = 0) -> Task:
    return Task(network, data(), seed)


def drawn(task: Task, *names: str | int) -> State:
    """A state that differs from any other in every tensor, counters too."""
    return {
        name: torch.full_like(value, _number(*names))
        if not value.is_floating_point()
        else torch.randn(value.shape, generator=stream(0, *names, name))
        for name, value in task.init().items()
    }


def _number(*names: str | int) -> int:
    return stream(0, *names).initial_seed() % 1000


@dataclass(frozen=True)
class Fake:
    """What one training left behind, all of it made up from its round."""

    task: Task
    round: int
    ticket: Ticket
    clock: Clock = CLOCK
    moved: Mask | None = None  # where the training left another mask than the ticket's
    asked: list[Step] = field(default_factory=list)

    @property
    def mask(self) -> Mask:
        return self.moved or self.ticket.mask

    @property
    def weights(self) -> State:
        ended = drawn(self.task, "end", self.round)
        return ended if self.moved else self.mask(ended)

    def at(self, step: Step) -> State:
        self.asked.append(step)
        if step == self.ticket.start.step:
            return self.ticket.masked
        return drawn(self.task, "at", self.round, step)

    def optimizer_at(self, step: Step) -> State:
        return {"momentum": torch.tensor([float(self.round), float(step)])}

    def derived(self, name: str, compute: Callable[[], State]) -> State:
        return compute()


def equal(one: State, other: State) -> bool:
    return states.fingerprint(one) == states.fingerprint(other)
