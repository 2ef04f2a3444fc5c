"""The search whose tickets are given: masks from files or from earlier runs, one after another."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from lth_runner.problem.gaussian import around
from lth_runner.problem.task import Task
from lth_runner.search.fit import Fit
from lth_runner.search.given_ticket import GivenTicket, Tickets, Weights, check_weights
from lth_runner.search.rewind import Rate, Rewind
from lth_runner.search.search import warn_of_empty_layers
from lth_runner.search.ticket import Past, Start, Ticket, dense_ticket
from lth_runner.search.untrained import Untrained
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step

SAID = {
    "own": "the task's own",
    "ticket": "those that the ticket began with",
    "trained": "those that the ticket was trained to",
}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given:
    """Trains tickets that come from elsewhere; round 0 is the dense network, to compare with.

    ``weights``: the task's ``own``, which ``rewind`` finds in its dense training; those that the
    ``ticket`` began its own training with; or those that it was ``trained`` to. ``rewind`` says of
    all three where the training stands on its clocks; of the task's own, which weights too.
    Batches are those of the ticket's own round, where it has one: a ticket of the same task and
    seed is trained as it was. ``dense``: without, the tickets alone are trained, from weights that
    need no training.
    To carry a ticket to other data: Morcos et al., NeurIPS 2019, arXiv 1906.02773.
    """

    tickets: Tickets
    weights: Weights = "own"
    rewind: Rewind = field(default_factory=Rewind)
    dense: bool = True
    fit: Fit = field(default_factory=Fit)

    def __post_init__(self) -> None:
        check_weights(self.weights)

    @property
    def num_dense(self) -> int:
        return 1 if self.dense else 0

    @property
    def num_rounds(self) -> int:
        return self.num_dense + self.tickets.num

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for rewinding that is not there, or changes nothing."""
        if not self.dense:
            self.rewind.refuse_what_is_trained(clock)
        self.rewind.check(task, clock, rate)
        if self.weights == "own":
            return
        self._tell_of_step(task, self.rewind.at(clock))
        if task.coordinates is not None and task.laws is None:
            raise UserError(
                f"pruner.weights={self.weights} are weights, and here other numbers are trained "
                f"({type(task.coordinates).__name__}): take pruner.weights=own, or "
                "coordinates=weights"
            )
        self._refuse_rewinding()

    def _tell_of_step(self, task: Task, step: Step) -> None:
        began = self.tickets.of(task.seed)[0].start_step
        if self.weights == "ticket" and began is not None and began != step:
            log.info(
                "start    the ticket's weights are those of step %d of its own training, and are "
                "trained here from step %d on (rewind.step)", began, step,
            )  # fmt: skip

    def _refuse_rewinding(self) -> None:
        """Refuses what says which weights are taken, where they are the ticket's."""
        rewind, plain = self.rewind, Rewind()
        accepted = ("rewind", "keep") if self.weights == "trained" else ("rewind",)
        wrong = [name for name in ("weights", "bn") if getattr(rewind, name) not in accepted]
        others = ("only", "layers", "optimizer")
        wrong += [name for name in others if getattr(rewind, name) != getattr(plain, name)]
        if wrong:
            raise UserError(
                f"rewind.{wrong[0]}={getattr(rewind, wrong[0])} says which weights are taken, and "
                f"with pruner.weights={self.weights} these are the ticket's: leave it out, or set "
                "pruner.weights=own"
            )

    def check_replicates(self, tasks: Sequence[Task]) -> None:
        """Raises UserError where a replicate has no ticket, or one that does not fit.

        Every ticket is read once, one in memory. Says which they are, and what they leave dense.
        """
        self.tickets.check_seeds([task.seed for task in tasks])
        sparsities = [sparsity for task in tasks for sparsity in self._looked_at(task)]
        given = self.tickets.of(tasks[0].seed)
        self.fit.check_names(tasks[0], given[0])
        dense = self.fit.mask(tasks[0], given[0]).dense
        log.info(
            "tickets  %s%s: sparsity %.4g%s; weights: %s",
            f"{len(given)} for each replicate, the first " if len(given) > 1 else "",
            given[0].called + " (where its weights are zero)" * given[0].by_zeros, min(sparsities),
            f" to {max(sparsities):.4g}" if len(set(sparsities)) > 1 else "", SAID[self.weights],
        )  # fmt: skip
        if dense:
            log.info(
                "dense    %s: %.3g %% of the weights that a mask covers stay whole, since the "
                "ticket does not name them or pruner.fresh does",
                ", ".join(dense), 100 * _share(tasks[0], dense),
            )  # fmt: skip

    def _looked_at(self, task: Task) -> Iterator[float]:
        """Reads a replicate's tickets one by one; yields their sparsities."""
        before = task.dense()
        for one in self.tickets.of(task.seed):
            mask = self.fit.mask(task, one).mask
            if self._goes_on and not mask <= before:
                raise UserError(
                    f"{one.called} keeps weights that the ticket before it has removed, and "
                    "rewinding takes the weights that were trained under that one: take "
                    "rewind=init, or one ticket alone (pruner.round)"
                )
            if self.weights != "own":
                self._carried(task, one, task.init())
            before = mask
            yield mask.sparsity

    @property
    def _goes_on(self) -> bool:
        """Whether a ticket starts from weights that the one before it was trained to."""
        rewind = self.rewind
        partly = bool(rewind.only) or rewind.layers is not None
        return self.weights == "own" and (rewind.weights == "keep" or partly)

    def foreseen(self, task: Task, clock: Clock) -> Iterator[tuple[Ticket, Past]]:
        """Yields the first ticket with the weights that it brings, which may be zeros where pruned.

        Those of the task's own are whole.
        """
        if self.weights == "own":
            return
        dense, one = dense_ticket(task), self.tickets.of(task.seed)[0]
        weights = self._carried(task, one, dense.weights)
        past = [Untrained(task, dense, clock)] if self.dense else []
        yield Ticket(self.fit.mask(task, one).mask, weights), past

    def snapshots(self, clock: Clock) -> Sequence[Step]:
        return [self.rewind.at(clock)] if self.dense else []

    def _next(self, task: Task, past: Past) -> GivenTicket | None:
        mine = self.tickets.of(task.seed)
        index = len(past) - self.num_dense
        return mine[index] if index < len(mine) else None

    def decide(self, task: Task, past: Past) -> Mask | None:
        """Gives the mask of the next ticket; None where there is none."""
        one = self._next(task, past)
        return None if one is None else warn_of_empty_layers(self.fit.mask(task, one).mask)

    def start(self, task: Task, past: Past) -> tuple[State, Start]:
        """Gives the weights of the next ticket, not yet masked, and where its training starts."""
        one = self._next(task, past)
        assert one is not None
        if self.dense:
            whole = self.rewind if self.weights == "own" else self._clocks()
            weights, start = whole(task, past)
        else:
            weights, start = self.rewind.without_dense(task)
        if self.weights != "own":
            weights = self._carried(task, one, weights)
        if self.rewind.data_order == "continue" and one.number is not None:
            start = replace(start, order=one.number)
        return weights, start

    def _clocks(self) -> Rewind:
        """The rewinding whose weights are the task's own, for what the ticket does not bring."""
        return replace(self.rewind, weights="rewind", bn="rewind")

    def _carried(self, task: Task, one: GivenTicket, base: State) -> State:
        kept = one.start if self.weights == "ticket" else one.trained
        if task.laws is None:
            return self.fit.weights(task, one.called, kept.read(), base)
        stock = self.fit.weights(task, one.called, kept.read(), task.merged(base))
        return around(stock, base)

    def propose(self, task: Task, past: Past) -> Ticket | None:
        if self.dense and not past:
            return dense_ticket(task)
        mask = self.decide(task, past)
        return None if mask is None else Ticket(mask, *self.start(task, past))


def _share(task: Task, names: Sequence[str]) -> float:
    whole = task.dense()
    return sum(whole[name].numel() for name in names) / whole.num_prunable
