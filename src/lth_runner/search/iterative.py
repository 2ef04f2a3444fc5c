"""The search that trains, prunes and rewinds, round after round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lth_runner.allocate import Allocate
from lth_runner.problem.task import Task
from lth_runner.schedule import Schedule
from lth_runner.score import Score
from lth_runner.search.rewind import Rate, Rewind
from lth_runner.search.search import check_parts, refuse_unmoved, warn_of_empty_layers
from lth_runner.search.ticket import Past, Start, Ticket, dense_ticket
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step


@dataclass(frozen=True)
class Iterative:
    """Prunes the lowest scores of the trained network and rewinds it, round after round.

    With the magnitude score it is iterative magnitude pruning (Frankle & Carbin, ICLR 2019,
    arXiv 1803.03635); with one round it is one-shot pruning.
    """

    score: Score
    allocate: Allocate
    schedule: Schedule
    rewind: Rewind

    @property
    def num_rounds(self) -> int:
        return 1 + len(self.schedule())

    @property
    def num_dense(self) -> int:
        return 1

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for a budget or a score that this problem cannot serve."""
        self.rewind.check(task, clock, rate)
        check_parts(task, self.score, self.allocate, self.schedule()[-1])

    def snapshots(self, clock: Clock) -> Sequence[Step]:
        return [self.rewind.at(clock)]

    def start(self, task: Task, past: Past) -> tuple[State, Start]:
        """Gives the weights of the next round, not yet masked, and where its training starts."""
        return self.rewind(task, past)

    def decide(self, task: Task, past: Past) -> Mask:
        """Finds the mask of the next round, within the last one's."""
        last = past[-1]
        scores = self.score(task, last.weights, last.mask)
        density = self.schedule()[len(past) - 1]
        seed = derive(task.seed, "search", len(past))
        found = self.allocate(scores, density, last.mask, seed)
        return warn_of_empty_layers(refuse_unmoved(task, scores, found, last.mask))

    def propose(self, task: Task, past: Past) -> Ticket | None:
        if not past:
            return dense_ticket(task)
        if len(past) >= self.num_rounds:
            return None
        return Ticket(self.decide(task, past), *self.start(task, past))
