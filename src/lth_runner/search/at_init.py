"""The search that prunes before training, by scores of the weights at the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lth_runner.allocate import Allocate
from lth_runner.problem.coordinates import prunes_to_zero
from lth_runner.problem.task import Task
from lth_runner.schedule import Schedule
from lth_runner.score import Score
from lth_runner.score.score import Scores
from lth_runner.search.outside import Outside
from lth_runner.search.rewind import Rate, Rewind
from lth_runner.search.search import (
    check_parts,
    refuse_unmoved,
    refuse_untrained,
    warn_of_empty_layers,
)
from lth_runner.search.ticket import Past, Start, Ticket, dense_ticket
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Duration, Step


@dataclass(frozen=True)
class AtInit:
    """Makes one ticket, pruned by scores of the weights W_k at ``rewind.step`` k; 0it is at init.

    The mask goes down the schedule, scored anew at each of its densities and never trained in
    between: one density is SNIP (Lee et al., ICLR 2019, arXiv 1810.02340), many are iterative
    SNIP and SynFlow. ``regrow``: scores see W_k whole beside the mask so far, and each choice is
    among all weights, so that removed ones may return (FORCE, de Jorge et al., ICLR 2021,
    arXiv 2006.09081); else they see m * W_k, and masks are nested. ``rewind`` says what is
    trained under the mask: W_k itself, or with weights=reinit a fresh draw, as SNIP's own code
    does. ``dense``: the dense network is trained first, for W_k and as the level to compare with;
    without, the only training is the ticket's. ``score_step``: the weights of another step of the
    dense training are scored, null for those of ``rewind.step``; of deltas it is what calibrates
    LoTA (Panda et al., 2024, arXiv 2406.16797). ``outside``: the mask keeps nothing of what another
    keeps, its density is still that of all (LoTTO, of the same paper). ``retrain``: without, the
    ticket is measured as it is, and makes no step.
    """

    score: Score
    allocate: Allocate
    schedule: Schedule
    rewind: Rewind = field(default_factory=Rewind)
    dense: bool = True
    regrow: bool = False
    score_step: Duration | str | None = None
    outside: Outside | None = None
    retrain: bool = True

    def __post_init__(self) -> None:
        if self.score_step is not None:
            object.__setattr__(self, "score_step", Duration.parse(self.score_step))

    @property
    def num_rounds(self) -> int:
        return 2 if self.dense else 1

    @property
    def num_dense(self) -> int:
        return 1 if self.dense else 0

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for a budget or a score that this problem cannot serve.

        And for weights that only a dense training would have, where there is none.
        """
        if not self.dense:
            self._refuse_what_is_trained(clock)
            refuse_untrained(retrain=self.retrain)
        self.rewind.check(task, clock, rate)
        check_parts(task, self.score, self.allocate, self.schedule()[-1])
        if not self._scored_step(clock) and not prunes_to_zero(task.coordinates):
            _refuse_ties(self.score(task, task.init(), task.dense()))
        if self.outside is not None:
            self.outside.check(task)

    def check_replicates(self, tasks: Sequence[Task]) -> None:
        """Raises UserError where a replicate has no room for its mask."""
        if self.outside is not None:
            self.outside.check_replicates(tasks, self.allocate, self.schedule()[-1])

    def _refuse_what_is_trained(self, clock: Clock) -> None:
        self.rewind.refuse_what_is_trained(clock)
        if self._scored_step(clock):
            raise UserError(
                f"pruner.score_step={self.score_step} needs the dense training, which "
                "pruner.dense=false leaves out: set pruner.dense=true, or pruner.score_step=null"
            )

    def _scored_step(self, clock: Clock) -> Step:
        """Finds the step whose weights are scored."""
        if self.score_step is None:
            return self.rewind.at(clock)
        return clock.at(Duration.parse(self.score_step), "pruner.score_step")

    def snapshots(self, clock: Clock) -> Sequence[Step]:
        return sorted({self.rewind.at(clock), self._scored_step(clock)}) if self.dense else []

    def start(self, task: Task, past: Past) -> tuple[State, Start]:
        """Gives the weights that are trained under the mask, and where their training starts."""
        if not self.dense:
            return self.rewind.without_dense(task)
        weights, start = self.rewind(task, past)
        return weights, start if self.retrain else start.at_the_end(past[0].clock)

    def decide(self, task: Task, past: Past) -> Mask:
        """Finds the ticket's mask, from the scored weights of the dense training alone."""
        scored = past[0].at(self._scored_step(past[0].clock)) if self.dense else task.init()
        return warn_of_empty_layers(self.mask(task, scored))

    def propose(self, task: Task, past: Past) -> Ticket | None:
        if len(past) >= self.num_rounds:
            return None
        if self.dense and not past:
            return dense_ticket(task)
        room = None if self.outside is None else self._room(task)
        return Ticket(self.decide(task, past), *self.start(task, past), room)

    def _room(self, task: Task) -> Mask:
        """Finds the largest mask that a ticket may have."""
        return task.dense() if self.outside is None else self.outside.room(task)

    def mask(self, task: Task, weights: State) -> Mask:
        """Prunes a network along the schedule, scored anew at each density."""
        dense = kept = self._room(task)
        for iteration, density in enumerate(self.schedule(), start=1):
            scores = self.score(task, weights if self.regrow else kept(weights), kept)
            if kept is dense:  # later ones may be 0: a mask can cut the network
                _refuse_ties(scores)
            seed = derive(task.seed, "search", iteration)
            within = dense if self.regrow else kept
            kept = refuse_unmoved(
                task, scores, self.allocate(scores, density, within, seed), within
            )
        return kept


def _refuse_ties(scores: Scores) -> None:
    """Raises UserError where all scores are 0, as |theta * g| is of deltas, which start at 0."""
    if not any(bool(values.any()) for values in scores.values()):
        raise UserError(
            "every weight has the score 0, so that chance alone would choose among them: score "
            "weights that have been trained (rewind.step or pruner.score_step above 0it), or "
            "choose another pruner"
        )
