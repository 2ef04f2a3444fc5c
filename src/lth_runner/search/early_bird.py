"""The search that prunes as soon as the mask stands still in the dense training."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lth_runner.allocate import Allocate, channels
from lth_runner.problem.task import Task
from lth_runner.schedule import Schedule
from lth_runner.score import Score
from lth_runner.search.rewind import Rate
from lth_runner.search.search import check_parts, warn_of_empty_layers
from lth_runner.search.ticket import Past, Start, Ticket, Trained, dense_ticket
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive
from lth_runner.values.steps import Clock, Duration, Step

log = logging.getLogger(__name__)
UNITS = ("weights", "channels")


@dataclass(frozen=True)
class EarlyBird:
    """Takes the ticket of the first epoch whose mask is near the masks of the epochs before it.

    After each epoch of the dense training, a mask is drawn at the schedule's last density. When
    it differs from each of the ``window`` - 1 before it in at most ``distance`` of all weights,
    the training goes on from that epoch under that mask. ``unit``: of all ``weights``, or of the
    ``channels`` of every layer but the last, as published; a channel is kept with any weight of it.
    The initial weights' mask is left out: before training all norm scales are alike. Looks no
    further than ``until``; finds nothing, says so and ends with the dense network where the masks
    do not settle.
    You et al., ICLR 2020, arXiv 1909.11957, who prune channels by norm scales; two random masks
    of sparsity p differ in 2p(1-p), so that 0.1 says little at 0.9 and beyond.
    """

    score: Score
    allocate: Allocate
    schedule: Schedule
    distance: float = 0.1
    window: int = 5
    until: Duration | str = "100%"
    unit: Literal["weights", "channels"] = "weights"

    def __post_init__(self) -> None:
        object.__setattr__(self, "until", Duration.parse(self.until))
        check_early_bird(self.distance, self.window, self.unit)

    @property
    def num_rounds(self) -> int:
        return 2

    @property
    def num_dense(self) -> int:
        return 1

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for a budget or a score that this problem cannot serve.

        And for fewer epochs until ``until`` than the window has.
        """
        check_parts(task, self.score, self.allocate, self.schedule()[-1])
        if len(self.snapshots(clock)) < self.window:
            raise UserError(
                f"pruner.window={self.window} epochs are more than the "
                f"{len(self.snapshots(clock))} until {self.until}: lower it, or train longer"
            )

    def snapshots(self, clock: Clock) -> Sequence[Step]:
        end = clock.at(Duration.parse(self.until), "pruner.until")
        length = clock.epoch * clock.scale  # of an epoch: less than a step where it is shrunk
        steps = {round(epoch * length) for epoch in range(1, int(end / length) + 2)}
        return sorted(step for step in steps if 0 < step <= end)

    def propose(self, task: Task, past: Past) -> Ticket | None:
        if not past:
            return dense_ticket(task)
        if len(past) >= self.num_rounds:
            return None
        recent: deque[Mask] = deque(maxlen=self.window - 1)
        for step, mask in self._masks(task, past[0]):
            units = channels(mask) if self.unit == "channels" else mask
            near = all(mask_distance(units, other) <= self.distance for other in recent)
            if near and len(recent) == self.window - 1:
                return Ticket(warn_of_empty_layers(mask), past[0].at(step), Start(step=step))
            recent.append(units)
        log.warning(
            "warning: no early-bird ticket: until %s no %d masks in a row were within %g of each "
            "other; try a larger pruner.distance", self.until, self.window, self.distance,
        )  # fmt: skip
        return None

    def _masks(self, task: Task, dense: Trained) -> Iterator[tuple[Step, Mask]]:
        whole, seed = task.dense(), derive(task.seed, "search", 1)
        for step in self.snapshots(dense.clock):
            scores = self.score(task, dense.at(step), whole)
            # one seed for all: equal scores are cut at the same place
            yield step, self.allocate(scores, self.schedule()[-1], whole, seed)


def mask_distance(one: Mask, other: Mask) -> float:
    """Measures the share of all entries, weights or channels, that one of two masks alone keeps."""
    return ((one | other).num_kept - (one & other).num_kept) / one.num_prunable


def check_early_bird(distance: float, window: int, unit: str) -> None:
    """Raises UserError for options that cannot say when masks stand still."""
    if isinstance(distance, bool) or not 0 <= distance <= 1:
        raise UserError(f"pruner.distance={distance} is outside [0, 1]")
    if isinstance(window, bool) or not isinstance(window, int) or window < 2:
        raise UserError(f"pruner.window={window!r}: give a whole number, at least 2")
    if unit not in UNITS:
        raise UserError(f"pruner.unit={unit!r}: {nearest(str(unit), UNITS)}")
