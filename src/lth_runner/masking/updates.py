"""When connections move in dynamic sparse training, and how many of them."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Literal

from lth_runner.values.errors import UserError, nearest
from lth_runner.values.steps import Clock, Duration, Step

log = logging.getLogger(__name__)
ANNEALS = ("cosine", "constant")


@dataclass(frozen=True)
class Updates:
    """Moves the share f(t) of a layer after t steps, t a multiple of ``every`` and at most T.

    T is the share ``end`` of the training's steps; f(t) = fraction / 2 (1 + cos(pi t / T)), or
    ``fraction`` throughout with anneal=constant. At the very end nothing moves any more.
    """

    fraction: float = 0.3
    every: Duration | str = "100it"
    end: float = 0.75
    anneal: Literal["cosine", "constant"] = "cosine"

    def __post_init__(self) -> None:
        object.__setattr__(self, "every", parse_period(self.every))
        for name in ("fraction", "end"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"pruner.{name}={getattr(self, name)} is a share: from 0 to 1")
        if self.anneal not in ANNEALS:
            raise UserError(f"pruner.anneal={self.anneal!r}: {nearest(str(self.anneal), ANNEALS)}")

    def share(self, step: Step, total: Step) -> float:
        """Computes f after ``step`` steps of ``total``; 0 where no update is due."""
        last = round(self.end * total)
        if step % period(self.every, total) or step > last or step >= total:
            return 0.0
        if self.anneal == "constant":
            return self.fraction
        return self.fraction / 2 * (1 + math.cos(math.pi * step / max(1, last)))

    def check(self, clock: Clock, *, at_step_0: bool) -> None:
        """Warns where no update is due in a training, but for one ``at_step_0``."""
        due = range(1, clock.total)
        if self.fraction and not any(self.share(step, clock.total) > 0 for step in due):
            log.warning(
                "warning: %s: pruner.every=%s has no multiple above 0 within the first %g of %d "
                "steps (pruner.end); lower it, or train longer",
                "connections move at the first step alone" if at_step_0 else "no connection moves",
                self.every, self.end, clock.total,
            )  # fmt: skip


def parse_period(every: Duration | str) -> Duration:
    """Reads a duration between two updates; raises UserError for none and for one in epochs."""
    found = Duration.parse(every)
    if found.unit == "ep" or not found.amount > 0:
        raise UserError(
            f"pruner.every={found} must be steps (100it) or a share of the training (4%), above "
            "0: a mask within a training knows no epochs (one of 25 is 4%)"
        )
    return found


def period(every: Duration | str, total: Step) -> Step:
    """Counts the steps between two updates, at least one."""
    return max(1, Clock(1, total).steps(Duration.parse(every), "pruner.every"))
