"""The search that trains random rows and columns of low-rank adapters."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from lth_runner.problem.task import Task
from lth_runner.search.partial_lora.lines import check_pairs, drawn
from lth_runner.search.partial_lora.ratios import Ratios
from lth_runner.search.rewind import Rate, Rewind
from lth_runner.search.ticket import Past, Start, Ticket, dense_ticket
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step


@dataclass(frozen=True)
class PartialLoRA:
    """Makes one ticket: rows of every B and columns of every A, drawn at random.

    ``ratios`` says how many of each. A change B A may differ from 0 only where a kept row meets a
    kept column: entries of A outside are zero, though A is not zero at its start. Round 0 is the
    dense adapter, the level to compare with, and ``rewind`` says where the ticket starts; without
    ``dense`` the ticket is the only training.
    Damirchi et al., "The Quest for Winning Tickets in Low-Rank Adapters", arXiv 2512.22495.
    Raises UserError for other coordinates than low-rank ones.
    """

    ratios: Ratios
    rewind: Rewind = field(default_factory=Rewind)
    dense: bool = True

    @property
    def num_rounds(self) -> int:
        return 2 if self.dense else 1

    @property
    def num_dense(self) -> int:
        return 1 if self.dense else 0

    @property
    def reads(self) -> Collection[str]:
        """Names what of the training samples the mask goes by: labels, pixels, or both."""
        return self.ratios.reads

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for what this problem cannot serve.

        And for what only a dense training would have, where there is none.
        """
        check_pairs(task, "pruner=partial_lora")
        if not self.dense:
            self.rewind.refuse_what_is_trained(clock)
            if self.ratios.needs_dense:
                raise UserError(
                    "pruner.ratios=derived asks the dense training, which pruner.dense=false "
                    "leaves out: set pruner.dense=true, or pruner.ratios=even"
                )
        self.rewind.check(task, clock, rate)
        self.ratios.check(task)

    def snapshots(self, clock: Clock) -> Sequence[Step]:
        return [self.rewind.at(clock)] if self.dense else []

    def start(self, task: Task, past: Past) -> tuple[State, Start]:
        """Gives the weights that are trained under the mask, and where their training starts."""
        return self.rewind(task, past) if self.dense else self.rewind.without_dense(task)

    def decide(self, task: Task, past: Past) -> Mask:
        """Draws the ticket's rows and columns, as many as the ratios say."""
        return drawn(task.dense(), self.ratios(task, past), derive(task.seed, "search", 1))

    def propose(self, task: Task, past: Past) -> Ticket | None:
        if len(past) >= self.num_rounds:
            return None
        if self.dense and not past:
            return dense_ticket(task)
        return Ticket(self.decide(task, past), *self.start(task, past))
