"""One training, whose masking does the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lth_runner.score import Score
from lth_runner.score import check as check_score
from lth_runner.step import Clock, Step
from lth_runner.task import Task
from lth_runner.ticket import Past, Ticket


@dataclass(frozen=True)
class Once:
    """The dense network from its initial weights, trained once: for maskings that prune.

    ``demands``: a score that the masking goes by, for what it asks of the network.
    """

    demands: Score | None = None

    @property
    def num_rounds(self) -> int:
        return 1

    def check(self, task: Task, clock: Clock) -> None:
        """Raises UserError for a score that the task cannot serve."""
        if self.demands is not None:
            check_score(self.demands, task)

    def snapshots(self, clock: Clock) -> Sequence[Step]:
        return []

    def propose(self, task: Task, past: Past) -> Ticket | None:
        return None if past else Ticket(task.dense(), task.init())
