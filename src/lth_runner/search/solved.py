"""The search whose ticket is a solution: a mask, and new weights that go with it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from lth_runner.problem.task import Task
from lth_runner.schedule import Schedule
from lth_runner.search.rewind import Rate, Rewind
from lth_runner.search.search import refuse_untrained, warn_of_empty_layers
from lth_runner.search.solution import Solution, Solve
from lth_runner.search.ticket import Past, Ticket, dense_ticket
from lth_runner.search.untrained import Untrained, any_half
from lth_runner.values import identity
from lth_runner.values import state as states
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step


@dataclass(frozen=True)
class Solved:
    """Makes one ticket, by a solver that moves the weights which stay; these are its start.

    It is given the weights that ``rewind`` finds: those at its step, the trained ones, or a fresh
    draw. All other tensors are theirs, and so are the clocks. The ticket's weights are zero where
    it is pruned, and belong to its mask alone: a control with another mask over them is refused.
    ``dense``: the dense network is trained first, as the level to compare with; the solution is
    kept beside that training, and read by a run that is continued. Without, there is no such
    place, and it is found again, to the same bits. ``retrain``: without, the ticket is measured as
    it is, and makes no step.
    """

    solve: Solve
    schedule: Schedule
    rewind: Rewind = field(default_factory=Rewind)
    dense: bool = True
    retrain: bool = True

    @property
    def num_rounds(self) -> int:
        return 2 if self.dense else 1

    @property
    def num_dense(self) -> int:
        return 1 if self.dense else 0

    @property
    def reads(self) -> Collection[str]:
        """Names what of the training samples the mask goes by: labels, pixels, or both."""
        found: Collection[str] = getattr(self.solve, "reads", ("labels", "pixels"))
        return found

    @property
    def _density(self) -> float:
        return self.schedule()[-1]

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for what this problem cannot serve.

        And for weights that only a dense training would have, where there is none.
        """
        if not self.dense:
            self.rewind.refuse_what_is_trained(clock)
            refuse_untrained(retrain=self.retrain)
        self.rewind.check(task, clock, rate)
        self.solve.check(task, self._density)

    def foreseen(self, task: Task, clock: Clock) -> Iterator[tuple[Ticket, Past]]:
        """Yields a ticket whose weights are zeros where it is pruned, as the solution's are."""
        dense = dense_ticket(task)
        mask = any_half(dense.mask)
        past = [Untrained(task, dense, clock)] if self.dense else []
        yield Ticket(mask, mask(dense.weights)), past

    def snapshots(self, clock: Clock) -> Sequence[Step]:
        return [self.rewind.at(clock)] if self.dense else []

    def propose(self, task: Task, past: Past) -> Ticket | None:
        if len(past) >= self.num_rounds:
            return None
        if self.dense and not past:
            return dense_ticket(task)
        found = self.rewind(task, past) if self.dense else self.rewind.without_dense(task)
        weights, start = found
        start = start if self.retrain else start.at_the_end(past[0].clock)
        solution = self._solution(task, past, weights)
        mask = warn_of_empty_layers(solution.mask)
        return Ticket(mask, weights | solution.weights, start)

    def _solution(self, task: Task, past: Past, weights: State) -> Solution:
        """Solves, or reads what was solved; it is named by all that it comes of."""
        if not past:
            return self.solve(task, weights, self._density)
        asked = {
            "task": task.identity,  # its data, of which the samples are drawn
            "seed": task.seed,
            "solve": identity.describe(self.solve),
            "density": self._density,
            "weights": states.fingerprint(weights),
        }
        packed = past[0].derived(
            f"solution-{identity.digest(asked, 16)}",
            lambda: self.solve(task, weights, self._density).packed(),
        )
        return Solution.unpacked(packed, task.dense())
