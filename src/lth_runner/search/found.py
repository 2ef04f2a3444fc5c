"""The search that takes its mask from within a training, over the weights it started from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lth_runner.problem.task import Task
from lth_runner.search.rewind import Rate
from lth_runner.search.search import warn_of_empty_layers
from lth_runner.search.ticket import Past, Start, Ticket, dense_ticket
from lth_runner.values.steps import Clock, Step


@dataclass(frozen=True)
class Found:
    """Finds a mask within the training of round 0; round 1 is the ticket of that mask.

    The ticket's weights are those that round 0 started from, whole, so that controls may lay
    other masks over them or other weights under the mask. With ``train`` they are trained from
    the start, as by a masking that holds the mask of a sparse ticket; the norms' running
    statistics start anew. Without, the ticket stands at the end of its training: no step is
    made, its accuracy is that of the initial weights under the mask (the running statistics,
    which are measured and not trained, are those of round 0).
    """

    train: bool = False

    @property
    def num_rounds(self) -> int:
        return 2

    @property
    def num_dense(self) -> int:
        return 1

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Refuses nothing."""

    def snapshots(self, clock: Clock) -> Sequence[Step]:
        return []

    def propose(self, task: Task, past: Past) -> Ticket | None:
        if not past:
            return dense_ticket(task)
        if len(past) >= self.num_rounds:
            return None
        searched = past[0]
        weights, mask = searched.ticket.weights, warn_of_empty_layers(searched.mask)
        if self.train:
            return Ticket(mask, weights, Start(order=1))
        ended = searched.weights
        norms = {name: ended[name] for name in weights if name in task.norm}
        return Ticket(mask, weights | norms, Start(step=searched.clock.total, order=1))
