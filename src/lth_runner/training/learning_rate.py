"""Schedules of the learning rate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lth_runner.values.errors import UserError
from lth_runner.values.steps import Clock, Duration, Step

MOST = 1e3  # of a factor on the learning rate


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
        drops = tuple(Duration.parse(drop) for drop in self.drops)
        object.__setattr__(self, "drops", drops)
        if not 0 < self.factor <= MOST:
            raise UserError(
                f"train.learning_rate.factor={self.factor} must be above 0, at most {MOST:g}: at "
                "each drop the rate is multiplied by it"
            )
        pairs = itertools.pairwise(drops)
        if any(one.unit == other.unit and one.amount >= other.amount for one, other in pairs):
            raise _not_in_order(drops)

    def __call__(self, step: Step, clock: Clock) -> float:
        drops = [Duration.parse(drop) for drop in self.drops]
        at = [clock.at(drop, "train.learning_rate.drops") for drop in drops]
        if at != sorted(at):
            raise _not_in_order(drops)
        return self.factor ** sum(step >= drop for drop in at)


@dataclass(frozen=True)
class Cosine:
    """Goes from 1 to ``final`` along half a cosine.

    Loshchilov & Hutter, ICLR 2017, arXiv 1608.03983.
    """

    final: float = 0.0

    def __post_init__(self) -> None:
        _check_final(self.final)

    def __call__(self, step: Step, clock: Clock) -> float:
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * step / clock.total)) / 2


@dataclass(frozen=True)
class Linear:
    """Goes from 1 to ``final`` along a line."""

    final: float = 0.0

    def __post_init__(self) -> None:
        _check_final(self.final)

    def __call__(self, step: Step, clock: Clock) -> float:
        return 1 - (1 - self.final) * step / clock.total


def _check_final(final: float) -> None:
    if not 0 <= final <= MOST:
        raise UserError(
            f"train.learning_rate.final={final} must be at least 0, at most {MOST:g}: it is the "
            "factor on the rate that the training ends with"
        )


def _not_in_order(drops: Sequence[Duration]) -> UserError:
    given = ",".join(map(str, drops))
    return UserError(
        f"train.learning_rate.drops=[{given}] are not in order: give each once, the earliest first"
    )
