"""Linear mode connectivity: the error along the line between two networks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean
from typing import Literal

import torch

from lth_runner.probe.probe import Value
from lth_runner.probe.reference import check_count, dense_training
from lth_runner.probe.trajectory import weights_at
from lth_runner.problem.answers import evaluate
from lth_runner.problem.batch_norm_statistics import SIZE, pieces, recompute, with_statistics
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Start, Ticket, Trained
from lth_runner.values import state as states
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.seeds import derive
from lth_runner.values.state import State
from lth_runner.values.steps import Duration, Step

Curves = dict[str, list[float]]  # test, train and, where statistics are kept, .._recomputed
OPTIMIZERS = ("fresh", "restore")

MOST = 1000  # points of a line, each an evaluation; trainings, each of them one


@dataclass(frozen=True)
class Instability:
    """Measures the barrier between trainings of this ticket that differ in their batches alone.

    Both start from the ticket's weights, mask, step and optimizer state; the data orders are
    fresh, since the ticket's own may be the one that the mask was found with. ``barrier_<split>``
    is the largest error on the line between them, at ``num_points`` evenly spaced points with
    the ends, less the mean of the ends (0-1 errors, shares); ``error_<split>_curve`` the errors.
    ``<split>`` is ``test``, ``train`` (``num_samples`` seeded samples) and, where the network
    keeps running statistics, these with ``_recomputed``: from the training samples at each point,
    the ends too; without, they are interpolated like scales and shifts. Counters are not.
    ``stable``: 1 where the barrier on test (recomputed where there is one) is below
    ``tolerance``, else 0.

    ``num_orders`` above 2 takes the mean over all pairs. ``same_order`` is the null: one training
    and the same once more, not read from the Store: exactly 0 where arithmetic is deterministic.
    ``rounds``: the rounds to look at (0 is the dense network), all for None. Where a training
    diverges ``barrier_test`` is NaN and the rest is left out. Adds ``num_orders`` trainings for
    every row.
    Frankle et al., ICML 2020, arXiv 1912.05671. Raises UserError for options out of range.
    """

    num_points: int = 30
    num_samples: int = 10_000
    num_orders: int = 2
    rounds: Sequence[int] | None = None
    tolerance: float = 0.02
    same_order: bool = False

    def __post_init__(self) -> None:
        _check("instability", self.num_points, self.num_samples, self.num_orders, self.tolerance)
        if self.same_order and self.num_orders != 2:
            raise UserError(
                "probe.instability.same_order=true compares a training with itself: leave "
                f"num_orders={self.num_orders!r} at 2"
            )
        if self.rounds is not None and not self.rounds:
            raise UserError(
                "probe.instability.rounds=[] looks at no round: give null for all, or leave the "
                "probe out (~probe.instability)"
            )
        for one in self.rounds or ():
            if isinstance(one, bool) or not isinstance(one, int) or one < 0:
                raise UserError(f"probe.instability.rounds: {one!r} is no round, 0 is the first")

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        ticket = trained.ticket
        if not self._looks_at(len(past)) or ticket.start.step == trained.clock.total:
            return
        if self.same_order:
            ends = again(task, trained, ticket)
        else:
            ends = children(task, trained, ticket, self.num_orders)
        if ends is None:
            yield "barrier_test", math.nan
            return
        curves = mean_lines(task, ends, self.num_points, self.num_samples)
        barriers = {split: fmean(map(barrier, found)) for split, found in curves.items()}
        for split, found in curves.items():
            yield f"barrier_{split}", barriers[split]
            yield f"error_{split}_curve", [fmean(errors) for errors in zip(*found, strict=True)]
        yield "stable", float(_decisive(barriers) < self.tolerance)

    def num_trainings(self, num_rows: Sequence[int]) -> int:
        """Counts the trainings that it adds to a replicate with so many rows in each round."""
        looked_at = (num for number, num in enumerate(num_rows) if self._looks_at(number))
        return self.num_orders * sum(looked_at)

    def _looks_at(self, number: int) -> bool:
        return self.rounds is None or number in self.rounds


@dataclass(frozen=True)
class InstabilityByStep:
    """Measures the dense network's instability by the step that two trainings part at.

    For each of ``steps``: the dense training's weights there, then ``num_orders`` trainings with
    data orders of their own, to the end. ``instability_by_step`` holds the barriers on test by
    step (``Instability``), ``instability_train_by_step`` and, where the network keeps running
    statistics, ``instability_recomputed_by_step`` and ``instability_train_recomputed_by_step``
    the others; ``stable_from_step`` is the first step from which all are below ``tolerance`` on
    test (recomputed where there is such), NaN if the last one is not. ``optimizer``: ``fresh`` as
    tickets are rewound by default, or ``restore``: its state there. Of round 0 alone; adds
    ``num_orders`` trainings for each step, and runs the dense one again up to the last step.
    Frankle et al., ICML 2020, arXiv 1912.05671. Raises UserError for options out of range, and
    for steps at or past the end.
    """

    steps: Sequence[Duration | str]
    num_points: int = 30
    num_samples: int = 10_000
    num_orders: int = 2
    tolerance: float = 0.02
    optimizer: Literal["fresh", "restore"] = "fresh"

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(Duration.parse(step) for step in self.steps))
        name = "instability_by_step"
        _check(name, self.num_points, self.num_samples, self.num_orders, self.tolerance)
        if not self.steps:
            raise UserError(f"probe.{name}.steps is empty: give some, e.g. [0it,100it,1ep]")
        if self.optimizer not in OPTIMIZERS:
            value = str(self.optimizer)
            raise UserError(f"probe.{name}.optimizer={value!r}: {nearest(value, OPTIMIZERS)}")

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        if past or dense_training(past, trained) is None:
            return
        found: dict[Step, dict[str, float]] = {}
        for step in self._steps(trained):
            ticket = self._parting(trained, step)
            ends = children(task, trained, ticket, self.num_orders, f"instability-{step}it")
            if ends is None:
                found[step] = {}
                continue
            curves = mean_lines(task, ends, self.num_points, self.num_samples)
            found[step] = {split: fmean(map(barrier, lines)) for split, lines in curves.items()}
        splits = max(found.values(), key=len)
        for split in splits or ("test",):
            label = "_".join(part for part in split.split("_") if part != "test")
            name = "_".join(part for part in ("instability", label, "by_step") if part)
            yield name, {str(step): of.get(split, math.nan) for step, of in found.items()}
        stable = {step: _decisive(of) < self.tolerance for step, of in found.items()}
        later = [step for step in stable if all(stable[s] for s in stable if s >= step)]
        yield "stable_from_step", min(later, default=math.nan)

    def num_trainings(self, num_rows: Sequence[int]) -> int:
        """Counts the trainings that it adds to a replicate."""
        return self.num_orders * len(self.steps)

    def _steps(self, trained: Trained) -> list[Step]:
        name, clock = "probe.instability_by_step.steps", trained.clock
        steps = sorted({clock.at(Duration.parse(step), name) for step in self.steps})
        if steps[-1] == clock.total:
            raise UserError(f"{name}: step {clock.total} is the end: nothing is left to train")
        return steps

    def _parting(self, trained: Trained, step: Step) -> Ticket:
        begins = step == trained.ticket.start.step
        restored = self.optimizer == "restore" and not begins
        state = trained.optimizer_at(step) if restored else {}
        return Ticket(trained.ticket.mask, weights_at(trained, step), Start(step, optimizer=state))


@dataclass(frozen=True)
class StartEnd:
    """Measures the error on the line from the weights where a training starts to where it ends.

    ``start_end_barrier_<split>`` and ``start_end_error_<split>_curve`` as ``Instability`` has
    them; trains nothing. Raises UserError for options out of range.
    """

    num_points: int = 30
    num_samples: int = 10_000

    def __post_init__(self) -> None:
        _check("start_end", self.num_points, self.num_samples)

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        ends = trained.ticket.masked, trained.weights
        for split, errors in line(task, *ends, self.num_points, self.num_samples).items():
            yield f"start_end_barrier_{split}", barrier(errors)
            yield f"start_end_error_{split}_curve", errors


def barrier(errors: Sequence[float]) -> float:
    """Computes the largest error less the mean of the two ends."""
    return max(errors) - (errors[0] + errors[-1]) / 2


def children(
    task: Task, trained: Trained, ticket: Ticket, num: int, arm: str = "instability"
) -> list[State] | None:
    """Trains a ticket ``num`` times with fresh data orders; None where one diverges."""
    found = [trained.sibling(_ordered(task, ticket, i), f"{arm}-{i}") for i in range(num)]
    return None if any(child.diverged for child in found) else [child.weights for child in found]


def again(task: Task, trained: Trained, ticket: Ticket) -> list[State] | None:
    """Trains a ticket once with a fresh data order, and the same training once more."""
    child = trained.sibling(_ordered(task, ticket, 0), "instability-0")
    return None if child.diverged else [child.weights, child.at(child.clock.total)]


def _ordered(task: Task, ticket: Ticket, index: int) -> Ticket:
    order = derive(task.seed, "probe", "instability", index)  # rewinding's are 0, 1, 2, ...
    return ticket.starting(replace(ticket.start, order=order))


def mean_lines(
    task: Task, ends: Sequence[State], num_points: int, num_samples: int
) -> dict[str, list[list[float]]]:
    """Measures the errors between every two of ``ends``, by split."""
    lines = [line(task, *pair, num_points, num_samples) for pair in combinations(ends, 2)]
    return {split: [found[split] for found in lines] for split in lines[0]}


@torch.no_grad()
def line(task: Task, one: State, other: State, num_points: int, num_samples: int) -> Curves:
    """Measures 0-1 errors at evenly spaced points from one network to another, with both ends.

    Running statistics are interpolated (``test``, ``train``) and, where the network keeps any,
    computed anew from the training samples (``..._recomputed``).
    """
    seed = derive(task.seed, "probe", "connectivity")
    drawn = task.data.sample(min(num_samples, task.data.num_train), seed)
    train = pieces(drawn)
    headline = task.objective.measures[0]
    module = task.module().eval()
    curves: Curves = {}

    def measure(suffix: str) -> None:
        for split, batches in (("test", task.evaluated("test", SIZE)), ("train", iter(train))):
            value = evaluate(module, batches, task.objective)[headline.name]
            curves.setdefault(split + suffix, []).append(headline.error(value))

    for point in range(num_points):
        states.write(module, between(one, other, point / (num_points - 1)))
        measure("")
        if with_statistics(module):
            recompute(module, train)
            measure("_recomputed")
    return curves


def between(one: State, other: State, share: float) -> State:
    """Interpolates (1 - share) * one + share * other, exactly at both ends.

    Integer counters stay those of ``one``.
    """
    return {
        name: torch.lerp(value, other[name], share) if value.is_floating_point() else value
        for name, value in one.items()
    }


def _decisive(barriers: Mapping[str, float]) -> float:
    """Picks the barrier on test, with statistics recomputed where there are any.

    NaN, for none, is below nothing.
    """
    return barriers.get("test_recomputed", barriers.get("test", math.nan))


def _check(
    probe: str, num_points: int, num_samples: int, num_orders: int = 2, tolerance: float = 0.02
) -> None:
    check_count(f"{probe}.num_samples", num_samples)
    for key, value in (("num_points", num_points), ("num_orders", num_orders)):
        if isinstance(value, bool) or not isinstance(value, int) or not 2 <= value <= MOST:
            raise UserError(
                f"probe.{probe}.{key}={value!r} must be a whole number of at least 2, at most "
                f"{MOST}"
            )
    if isinstance(tolerance, bool) or not isinstance(tolerance, (int, float)) or tolerance <= 0:
        raise UserError(
            f"probe.{probe}.tolerance={tolerance!r} must be an error, 0.02 for 2 points"
        )
