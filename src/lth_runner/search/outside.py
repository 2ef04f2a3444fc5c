"""The room that a mask has beside another ticket's, of which it is to keep nothing."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from lth_runner.allocate import Allocate
from lth_runner.problem.low_rank import LowRank
from lth_runner.problem.task import Task
from lth_runner.score import Random
from lth_runner.search.fit import Fit
from lth_runner.search.given_ticket import Tickets
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outside:
    """Leaves a mask what other tickets do not keep: the complement of the last one of ``tickets``.

    What a second task trains there leaves alone what a first one has trained: LoTTO, Panda et al.,
    2024, arXiv 2406.16797.
    """

    tickets: Tickets
    fit: Fit = field(default_factory=Fit)

    def room(self, task: Task) -> Mask:
        """Finds what may be kept; a tensor that the ticket does not name is free as a whole."""
        given = self.tickets.of(task.seed)[-1]
        found = self.fit.mask(task, given)
        whole = task.dense()
        return Mask({n: whole[n] if n in found.dense else ~kept for n, kept in found.mask.items()})

    def check(self, task: Task) -> None:
        """Raises UserError where what lies outside would be zero, and not as it was."""
        if task.coordinates is None:
            raise UserError(
                "pruner.outside leaves to another ticket what that keeps, and of a network's own "
                "weights these would be zero: take coordinates=delta, in which they stay as "
                "origin=run brings them"
            )
        if isinstance(task.coordinates, LowRank):
            raise UserError(
                "pruner.outside leaves places of a weight to another ticket, and a low-rank pair "
                "has no entry for a place: take coordinates=delta, or pruner.outside=null"
            )

    def check_replicates(self, tasks: Sequence[Task], allocate: Allocate, density: float) -> None:
        """Raises UserError where there is no ticket for a replicate, or too little room for it."""
        self.tickets.check_seeds([task.seed for task in tasks])
        shares = []
        for task in tasks:
            room = self.room(task)
            if room.density < density:
                raise UserError(
                    f"pruner.outside={self.tickets.of(task.seed)[-1].called} leaves "
                    f"{100 * room.density:.4g} % of what a mask covers, and the ticket is to keep "
                    f"{100 * density:.4g} %: the two would overlap. Set pruner.sparsity to "
                    f"{math.ceil(1e4 * (1 - room.density)) / 1e4:g} or more, or pruner.outside=null"
                )
            allocate(Random()(task, {}, room), density, room, 0)
            shares.append(room.density)
        log.info(
            "outside  %s: %.4g %% of what a mask covers is free",
            self.tickets.of(tasks[0].seed)[-1].called, 100 * min(shares),
        )  # fmt: skip
