"""What every search answers, and what it says of a network that no signal passes any more."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lth_runner.allocate import Allocate, collapsed, count
from lth_runner.problem.task import Task
from lth_runner.score import Random, Score
from lth_runner.score import check as check_score
from lth_runner.search.rewind import Rewind
from lth_runner.search.ticket import Past, Start, Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step

log = logging.getLogger(__name__)


class Search(Protocol):
    """Decides the next ticket. It keeps no state: the same past gives the same ticket."""

    @property
    def num_rounds(self) -> int: ...  # trainings of the ticket arm, the dense one included
    def check(self, task: Task, clock: Clock) -> None: ...  # UserError before any training
    def snapshots(self, clock: Clock) -> Sequence[Step]: ...  # of the first training, wanted later
    def propose(self, task: Task, past: Past) -> Ticket | None: ...  # None: finished


@runtime_checkable
class Rewinding(Protocol):
    """A search whose tickets start where ``rewind`` says; either half of a ticket asked alone."""

    rewind: Rewind

    def decide(self, task: Task, past: Past) -> Mask | None: ...  # as a ticket has it
    def start(self, task: Task, past: Past) -> tuple[State, Start]: ...


def check_parts(task: Task, score: Score, allocate: Allocate, density: float) -> None:
    """Raises UserError for a score that the task cannot serve, and for a budget that no network
    of this shape can meet, or that leaves nothing of it."""
    check_score(score, task)
    dense = task.dense()
    if not count(density, dense.num_prunable):
        raise UserError(
            f"at sparsity {1 - density:.8g}, where the rounds of pruning end, none of "
            f"{dense.num_prunable} weights would be left: lower pruner.sparsity, or pruner.rounds "
            "or pruner.rate where it is null"
        )
    allocate(Random()(task, {}, dense), density, dense, 0)


def warned(mask: Mask) -> Mask:
    """The mask, after a warning where it leaves a layer without any weight."""
    if empty := collapsed(mask):
        log.warning(
            "warning: at sparsity %.4g nothing is left of %s: the network is cut there (seen "
            "before training; pruner.avoid_collapse=true keeps one weight in every layer)",
            mask.sparsity, ", ".join(empty),
        )  # fmt: skip
    return mask
