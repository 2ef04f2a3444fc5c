"""The seam for searches, and the checks that they share."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from lth_runner.allocate import Allocate, count, empty_layers
from lth_runner.problem.coordinates import prunes_to_zero
from lth_runner.problem.requirements import check as check_score
from lth_runner.problem.task import Task
from lth_runner.schedule import Schedule
from lth_runner.score import Random, Score
from lth_runner.score.score import Scores
from lth_runner.search.rewind import Rate, Rewind
from lth_runner.search.ticket import Past, Start, Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.listed import listed
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


@runtime_checkable
class Foreseeing(Protocol):
    """A search that knows, before any training, what of its tickets a control may stumble over."""

    def foreseen(self, task: Task, clock: Clock) -> Iterator[tuple[Ticket, Past]]:
        """Yields a ticket of each kind to come behind rounds as they will be, all untrained."""


@runtime_checkable
class Scheduled(Protocol):
    """A search, a masking or a score that goes down the densities of a schedule."""

    @property
    def schedule(self) -> Schedule | None:
        """The densities; None where none is asked for."""


def check_parts(task: Task, score: Score, allocate: Allocate, density: float) -> None:
    """Raises UserError for a score or a budget that the task cannot serve.

    It cannot serve a budget that no network of this shape can meet, or that leaves nothing of it.
    """
    check_score(score, task)
    if not type(score).__module__.startswith("lth_runner."):
        _try_score(score, task)
    dense = task.dense()
    _check_end(density, dense.num_prunable)
    allocate(Random()(task, {}, dense), density, dense, 0)


def _try_score(score: Score, task: Task) -> None:
    """Has a user's own score look at the network once, before anything is trained for it."""
    name, dense = type(score).__qualname__, task.dense()
    try:
        found: object = score(task, task.init(), dense)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"pruner.search.score: {name} cannot score the network: {type(error).__name__}: {error}"
        ) from error
    wanted = {key: tuple(kept.shape) for key, kept in dense.items()}
    if not isinstance(found, Mapping):
        raise UserError(
            f"pruner.search.score: {name} gives a {type(found).__name__}, not a mapping of "
            f"{', '.join(wanted)} to tensors"
        )
    for key, shape in wanted.items():
        value = found.get(key)
        if not isinstance(value, Tensor) or tuple(value.shape) != shape or value.is_complex():
            raise UserError(
                f"pruner.search.score: {name} gives no tensor of real numbers of shape {shape} "
                f"for {key}, where larger means keep"
            )


def refuse_untrained(*, retrain: bool) -> None:
    """Raises UserError for a ticket that is not to be trained, where nothing else is either."""
    if not retrain:
        raise UserError(
            "pruner.retrain=false measures the ticket at the end of the dense training's clock, "
            "and pruner.dense=false leaves that training out: set one of them to true"
        )


def check_schedules(part: object, task: Task) -> None:
    """Raises UserError where a part's schedule, or that of one within it, leaves all or nothing."""
    if isinstance(part, Scheduled) and part.schedule is not None:
        _check_end(part.schedule()[-1], task.dense().num_prunable)
    if is_dataclass(part):
        for field in fields(part):
            check_schedules(getattr(part, field.name), task)


def _check_end(density: float, num: int) -> None:
    kept = count(density, num)
    if 0 < kept < num:
        return
    where = f"at sparsity {1 - density:.8g}, where the rounds of pruning end,"
    if kept:
        raise UserError(
            f"{where} all of {num} weights would stay, and no ticket be there: raise "
            "pruner.sparsity, or pruner.rounds or pruner.rate where it is null"
        )
    raise UserError(
        f"{where} none of {num} weights would be left: lower pruner.sparsity, or pruner.rounds or "
        "pruner.rate where it is null"
    )


def refuse_unmoved(task: Task, scores: Scores, mask: Mask, within: Mask) -> Mask:
    """Raises UserError where chance would choose among deltas that are zero; gives the mask back.

    A training that was short, or of coarse numbers, leaves many of them at zero, and by their
    scores none of these is more than another. Layers that stay whole are not looked at.
    """
    if prunes_to_zero(task.coordinates):
        return mask
    cut = [name for name in mask if not torch.equal(mask[name], within[name])]
    if not any(bool((scores[name][mask[name]] == 0).any()) for name in cut):
        return mask
    moved = sum(int((scores[name][within[name]] != 0).sum()) for name in within)
    raise UserError(
        f"{mask.num_kept} of {mask.num_prunable} deltas are to be kept (sparsity "
        f"{mask.sparsity:.4g}), and only {moved} of those to choose from are not zero: "
        "chance would choose the others. Train longer before pruning (pruner.score_step, "
        "train.length), take more precise numbers (train.precision=fp32), or raise "
        f"pruner.sparsity to {1 - moved / mask.num_prunable:.4g} at least"
    )


def warn_of_empty_layers(mask: Mask) -> Mask:
    """Warns where a mask leaves a layer without any weight, and gives the mask back."""
    if empty := empty_layers(mask):
        log.warning(
            "warning: at sparsity %.4g nothing is left of %s: the network is cut there (seen "
            "before training; pruners with the key avoid_collapse keep one weight in each layer)",
            mask.sparsity, listed(empty),
        )  # fmt: skip
    return mask
