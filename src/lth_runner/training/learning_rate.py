"""Schedules of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lth_runner.values.steps import Clock, Duration, Step


class LearningRate(Protocol):
    """Gives the factor on the optimizer's learning rate at a step, as a pure function."""

    def __call__(self, step: Step, clock: Clock) -> float: ...


@dataclass(frozen=True)
class Constant:
    """Keeps the factor at 1."""

    def __call__(self, step: Step, clock: Clock) -> float:
        return 1.0


@dataclass(frozen=True)
class MultiStep:
    """Multiplies the factor by ``factor`` at each of ``drops``."""

    drops: Sequence[Duration | str]
    factor: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "drops", tuple(Duration.parse(drop) for drop in self.drops))

    def __call__(self, step: Step, clock: Clock) -> float:
        passed = (
            step >= clock.at(Duration.parse(drop), "train.learning_rate.drops")
            for drop in self.drops
        )
        return self.factor ** sum(passed)


@dataclass(frozen=True)
class Cosine:
    """Goes from 1 to ``final`` along half a cosine.

    Loshchilov & Hutter, ICLR 2017, arXiv 1608.03983.
    """

    final: float = 0.0

    def __call__(self, step: Step, clock: Clock) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * step / clock.total)) / 2


@dataclass(frozen=True)
class Linear:
    """Goes from 1 to ``final`` along a line."""

    final: float = 0.0

    def __call__(self, step: Step, clock: Clock) -> float:
        return 1 - (1 - self.final) * step / clock.total
