"""Whether a ticket moves the way the same weights move within the dense network."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.probe.probe import Value
from lth_runner.probe.reference import check_count, dense_training
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trajectory:
    """Measures cos(m * (W_t - W_k) of the dense training, (W_t - W_k) of this one).

    Over the prunable weights.
    k is the step where this training starts; each moves from its own weights there. t is k + 1,
    k + 2, k + 4, ... up to k + ``num_steps``, and the end: ``trajectory_steps``.
    ``trajectory_cosine_curve`` and ``trajectory_norm_ratio_curve``, the norm of this training's
    move over that of the masked dense one, have an entry for each; ``trajectory_cosine`` is the
    last. NaN where one of the two has not moved. A fresh optimizer takes other first steps than
    the dense training's at k > 0: rewind.optimizer=restore leaves the mask alone to differ.

    Nothing is written for the dense training itself and where the two see different batches: the
    comparison needs the same data order (rewind.data_order=rewind). Runs at most ``num_steps``
    steps of each training again, once, and keeps the snapshots in the Store. Raises UserError for
    a count below 1.
    """

    num_steps: int = 128

    def __post_init__(self) -> None:
        check_count("trajectory.num_steps", self.num_steps)

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        dense = dense_training(past, trained)
        start, mask = trained.ticket.start, trained.mask
        steps = self.steps(start.step, trained.clock.total)
        if not past or dense is None or not steps:
            return
        if start.order != dense.ticket.start.order:
            _warn(dense.key)
            return
        origin = weights_at(dense, start.step)
        cosines, ratios = [], []
        for step in steps:
            whole = movement(origin, weights_at(dense, step), mask)
            own = movement(trained.ticket.masked, weights_at(trained, step), mask)
            cosines.append(_ratio(float(whole @ own), float(whole.norm() * own.norm())))
            ratios.append(_ratio(float(own.norm()), float(whole.norm())))
        yield "trajectory_steps", steps
        yield "trajectory_cosine_curve", cosines
        yield "trajectory_norm_ratio_curve", ratios
        yield "trajectory_cosine", cosines[-1]

    def steps(self, begin: Step, total: Step) -> list[Step]:
        """Names begin + 1, + 2, + 4, ... up to + ``num_steps``, and the end; none for no step."""
        powers = (2**power for power in range(self.num_steps.bit_length()))
        return [*(begin + p for p in powers if begin + p < total), *([total] * (begin < total))]


def weights_at(trained: Trained, step: Step) -> State:
    """Reads a training's weights at a step; its start and end without running it again."""
    if step == trained.ticket.start.step:
        return trained.ticket.masked
    return trained.weights if step == trained.clock.total else trained.at(step)


def movement(start: State, end: State, within: Mask) -> Tensor:
    """Computes end - start over the kept weights, as one vector in float64."""
    moved = [(end[n].double() - start[n].double())[kept] for n, kept in within.items()]
    return torch.cat(moved)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


@functools.lru_cache(maxsize=64)
def _warn(dense: str) -> None:
    """Warns once beside each dense training: the same holds for every arm and every round."""
    log.warning(
        "warning: no trajectories: tickets see other batches than the dense training; "
        "rewind.data_order=rewind gives them the same"
    )
