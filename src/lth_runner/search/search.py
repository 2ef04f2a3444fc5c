"""The seam for searches, and the checks that they share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lth_runner.allocate import Allocate, count, empty_layers
from lth_runner.problem.requirements import check as check_score
from lth_runner.problem.task import Task
from lth_runner.score import Random, Score
from lth_runner.search.rewind import Rate, Rewind
from lth_runner.search.ticket import Past, Start, Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step

log = logging.getLogger(__name__)


class Search(Protocol):
    """Decides the next ticket and keeps no state: the same past gives the same ticket."""

    @property
    def num_rounds(self) -> int:
        """How many trainings the ticket arm has at most, the dense one included."""

    @property
    def num_dense(self) -> int:
        """How many of these come first and begin dense: no control stands beside them."""

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError, before any training, for what this problem cannot serve.

        ``rate`` is the learning-rate schedule of every training.
        """

    def snapshots(self, clock: Clock) -> Sequence[Step]:
        """Names the steps of the first training whose weights later rounds will want."""

    def propose(self, task: Task, past: Past) -> Ticket | None:
        """Gives the ticket that follows the rounds of ``past``; None where the search ends."""


@runtime_checkable
class Rewinding(Protocol):
    """A search whose tickets start where ``rewind`` says, and which gives either half of one."""

    rewind: Rewind

    def decide(self, task: Task, past: Past) -> Mask | None:
        """Gives the mask of the next ticket alone; None where there is none."""

    def start(self, task: Task, past: Past) -> tuple[State, Start]:
        """Gives the weights, not yet masked, and the start of the next ticket alone."""


def check_parts(task: Task, score: Score, allocate: Allocate, density: float) -> None:
    """Raises UserError for a score or a budget that the task cannot serve.

    It cannot serve a budget that no network of this shape can meet, or that leaves nothing of it.
    """
    check_score(score, task)
    dense = task.dense()
    if not count(density, dense.num_prunable):
        raise UserError(
            f"at sparsity {1 - density:.8g}, where the rounds of pruning end, none of "
            f"{dense.num_prunable} weights would be left: lower pruner.sparsity, or pruner.rounds "
            "or pruner.rate where it is null"
        )
    allocate(Random()(task, {}, dense), density, dense, 0)


def warn_of_empty_layers(mask: Mask) -> Mask:
    """Warns where a mask leaves a layer without any weight, and gives the mask back."""
    if empty := empty_layers(mask):
        log.warning(
            "warning: at sparsity %.4g nothing is left of %s: the network is cut there (seen "
            "before training; pruner.avoid_collapse=true keeps one weight in every layer)",
            mask.sparsity, ", ".join(empty),
        )  # fmt: skip
    return mask
