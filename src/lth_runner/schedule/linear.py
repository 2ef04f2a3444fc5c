"""The schedule that removes the same number of weights in every round."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

from lth_runner.schedule.geometric import MOST_ROUNDS, check_numbers
from lth_runner.values.errors import UserError


@dataclass(frozen=True)
class Linear:
    """Removes ``rate`` of all prunable weights in each round, down to ``sparsity`` exactly.

    Two of the three suffice: density after round r is 1 - r * rate, and the last round lands on
    1 - sparsity. With 0.1 it is the schedule of Chen et al., NeurIPS 2020, arXiv 2007.12223.
    Raises UserError for numbers that leave nothing, or do not reach the sparsity.
    """

    sparsity: float | None = None
    rate: float | None = None
    rounds: int | None = None

    def __post_init__(self) -> None:
        check_numbers(self.sparsity, self.rate, self.rounds, "of all weights that goes")
        if self.sparsity and self.rate and _rounds(self.sparsity, self.rate) > MOST_ROUNDS:
            raise UserError(
                f"pruner.rate={self.rate} would take more than {MOST_ROUNDS} rounds to reach "
                f"pruner.sparsity={self.sparsity}: raise pruner.rate"
            )
        if not (self.rate and self.rounds):
            return
        reached = self.rate * self.rounds
        if self.sparsity is None and reached >= 1 - 1e-9:
            raise UserError(
                f"pruner.rounds={self.rounds} at pruner.rate={self.rate} of all weights leave "
                f"none: give at most {_rounds(1, self.rate) - 1} rounds"
            )
        if self.sparsity and reached < self.sparsity - 1e-9:
            raise UserError(
                f"pruner.rounds={self.rounds} at pruner.rate={self.rate} of all weights reach "
                f"sparsity {reached:.4g}, not pruner.sparsity={self.sparsity}: allow "
                f"{_rounds(self.sparsity, self.rate)} rounds, or set pruner.rounds=null, or "
                "pruner.rate=null to let the rate follow"
            )

    def __call__(self) -> tuple[float, ...]:
        if self.sparsity is None:
            rate = float(self.rate or 0)
            return tuple(1 - r * rate for r in range(1, (self.rounds or 0) + 1))
        num = _rounds(self.sparsity, self.rate) if self.rate else self.rounds or 1
        rate = self.rate or self.sparsity / num
        return (*(1 - r * rate for r in range(1, num)), 1 - self.sparsity)


def _rounds(sparsity: float, rate: float) -> int:
    # the tolerance: 0.7 / 0.1 must count as seven rounds, not eight
    return max(1, math.ceil(min(sparsity / rate, sys.float_info.max) - 1e-9))
