"""The search that prunes before training by scores that are dear, each computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lth_runner.allocate import Allocate
from lth_runner.problem.task import Task
from lth_runner.schedule import Schedule
from lth_runner.score import Score, Scores
from lth_runner.search.at_init import AtInit
from lth_runner.search.rewind import Rate, Rewind
from lth_runner.search.ticket import Past, Start, Ticket, Trained
from lth_runner.values import identity
from lth_runner.values import state as states
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Duration, Step


@dataclass(frozen=True)
class KeptScores:
    """Prunes as ``AtInit`` and keeps the scores beside the dense training they belong to.

    It is for scores that are a search of their own: a run that is continued reads them. Without a
    dense training (``dense``) there is no such place, and they are computed again, to the same
    bits.
    """

    score: Score
    allocate: Allocate
    schedule: Schedule
    rewind: Rewind = field(default_factory=Rewind)
    dense: bool = True
    score_step: Duration | str | None = None

    def __post_init__(self) -> None:
        if self.score_step is not None:
            object.__setattr__(self, "score_step", Duration.parse(self.score_step))

    def _with(self, score: Score) -> AtInit:
        return AtInit(
            score,
            self.allocate,
            self.schedule,
            self.rewind,
            self.dense,
            score_step=self.score_step,
        )

    @property
    def num_rounds(self) -> int:
        return self._with(self.score).num_rounds

    @property
    def num_dense(self) -> int:
        return self._with(self.score).num_dense

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError as ``AtInit`` does."""
        self._with(self.score).check(task, clock, rate)

    def snapshots(self, clock: Clock) -> Sequence[Step]:
        return self._with(self.score).snapshots(clock)

    def start(self, task: Task, past: Past) -> tuple[State, Start]:
        """Gives what ``AtInit`` gives; nothing is scored for it."""
        return self._with(self.score).start(task, past)

    def decide(self, task: Task, past: Past) -> Mask:
        """Finds the mask that ``AtInit`` finds."""
        return self._with_kept_scores(past).decide(task, past)

    def propose(self, task: Task, past: Past) -> Ticket | None:
        return self._with_kept_scores(past).propose(task, past)

    def _with_kept_scores(self, past: Past) -> AtInit:
        return self._with(_Kept(self.score, past[0]) if past else self.score)


@dataclass(frozen=True)
class _Kept:
    """A score that is looked up beside a training before it is computed."""

    score: Score
    beside: Trained

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        asked = {
            "task": task.identity,  # a control may have changed the data
            "seed": task.seed,
            "score": identity.describe(self.score),
            "weights": states.fingerprint(weights),
            "mask": mask.fingerprint,
        }
        name = f"scores-{identity.digest(asked, 16)}"
        return self.beside.derived(name, lambda: self.score(task, weights, mask))
