"""The schedule that removes the same share of what remains in every round."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from lth_runner.values.errors import UserError

MOST_ROUNDS = 10_000  # each is a training of every arm and replicate


@dataclass(frozen=True)
class Geometric:
    """Removes ``rate`` of what remains in each round, down to ``sparsity`` exactly.

    Two of the three suffice: density after round r is (1-rate)^r, and the last round lands on
    1 - sparsity. Rounds that come before the last are the same for every ``sparsity``, so that
    a sweep over it shares them.
    """

    sparsity: float | None = None
    rate: float | None = None
    rounds: int | None = None

    def __post_init__(self) -> None:
        check_numbers(self.sparsity, self.rate, self.rounds, "of what is left that goes")
        if self.sparsity and self.rate:
            num = _rounds(self.sparsity, self.rate)
            if num > MOST_ROUNDS:
                raise UserError(
                    f"pruner.rate={self.rate} would take {num:.3g} rounds to reach "
                    f"pruner.sparsity={self.sparsity}, and there may be {MOST_ROUNDS}: raise "
                    "pruner.rate"
                )
        if self.sparsity and self.rate and self.rounds:
            reached = 1 - (1 - self.rate) ** self.rounds
            if reached < self.sparsity - 1e-9:
                raise UserError(
                    f"pruner.rounds={self.rounds} at pruner.rate={self.rate} reach sparsity "
                    f"{reached:.4g}, not pruner.sparsity={self.sparsity}: allow "
                    f"{_rounds(self.sparsity, self.rate)} rounds (pruner.rounds=null: as many as "
                    "it takes, beside +scale=smoke too, which sets rounds and rate), or set "
                    "pruner.rate=null to let the rate follow, or pruner.sparsity=null to stop "
                    "where the rounds end"
                )

    def __call__(self) -> tuple[float, ...]:
        if self.sparsity is None:
            return tuple((1 - float(self.rate or 0)) ** r for r in range(1, (self.rounds or 0) + 1))
        if self.rate is None:
            last = self.rounds or 1
            return (
                *((1 - self.sparsity) ** (r / last) for r in range(1, last)),
                1 - self.sparsity,
            )
        num = _rounds(self.sparsity, self.rate)
        return (*((1 - self.rate) ** r for r in range(1, num)), 1 - self.sparsity)


def check_numbers(
    sparsity: float | None, rate: float | None, rounds: int | None, share: str
) -> None:
    """Raises UserError where the numbers of a schedule are none, or too few; ``share``: of rate."""
    for name, value, said in (
        ("sparsity", sparsity, "of weights removed, 0.9 for 90 %"),
        ("rate", rate, f"{share} in each round, 0.2 for 20 %"),
    ):
        if value is not None and not 0 < value < 1:
            hint = f"; {value:g} % would be {value / 100:g}" if 1 < value < 100 else ""
            raise UserError(
                f"pruner.{name}={value} is outside (0, 1): it is the share {said}{hint}"
            )
    whole = isinstance(rounds, int) and not isinstance(rounds, bool)
    if rounds is not None and not (whole and rounds >= 1):
        raise UserError(f"pruner.rounds={rounds!r}: give a whole number, at least 1")
    if [sparsity, rate, rounds].count(None) > 1:
        raise UserError(
            "set two of pruner.sparsity, pruner.rate and pruner.rounds (the third may be null)"
        )
    if rounds is not None and rounds > MOST_ROUNDS:
        raise UserError(f"pruner.rounds={rounds}: give at most {MOST_ROUNDS}")


def _rounds(sparsity: float, rate: float) -> int:
    # the tolerance: (1 - rate)^3 computed backwards must count as three rounds, not four
    num = math.log1p(-sparsity) / math.log1p(-rate) - 1e-9
    return max(1, math.ceil(min(num, sys.float_info.max)))


def at_once(
    sparsity: float | None = None, rate: float | None = None, rounds: int | None = None
) -> Geometric:
    """Makes the schedule of one round, to where a geometric one of these numbers would end.

    Without a rate they are that schedule's own.
    """
    if rate is None:
        return Geometric(sparsity, rate, rounds)
    end = Geometric(sparsity, rate, rounds)()[-1]
    return Geometric(1 - end if sparsity is None else sparsity, rounds=1)


def rate_to_reach(sparsity: float, rounds: int, least: float) -> float:
    """Finds the rate by which so many rounds reach a sparsity, ``least`` where that is enough."""
    return max(least, 1 - (1 - sparsity) ** (1 / rounds))
