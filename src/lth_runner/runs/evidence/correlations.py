"""Correlations of what was recorded with the headline measure, over all rows and within cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lth_runner.runs.evidence.estimate import LEVEL, benjamini_hochberg, paired
from lth_runner.runs.evidence.means import number
from lth_runner.runs.evidence.rows import FinishedRun

MIN_ROWS = 5  # four points say little
BOUND = 1 - 1e-6  # atanh of 1 is infinite
NO_QUANTITY = frozenset(
    {"round", "seed", "sparsity", "sparsity_of_all", "num_kept", "num_prunable", "num_parameters",
     "start_step", "steps", "seconds", "search_seconds"}
)  # fmt: skip
# what is to be explained, or nearly so
OUTCOMES = ("train_", "val_", "test_", "best_val_test_", "best_val_loss")
DEFAULT_QUANTITIES = frozenset(
    {"density", "best_val_step", "sign_preservation", "sign_preservation_dense",
     "sign_preservation_dense_on_ticket", "jaccard_early_gradient", "jaccard_chance",
     "jaccard_null", "jaccard_z", "mask_overlap_previous", "num_collapsed_layers"}
)  # fmt: skip


@dataclass(frozen=True)
class Within:
    """A correlation within rounds and arms: its mean over the seeds, interval, and p of none.

    `is_told`: p < 0.05 after Benjamini and Hochberg's correction over the run's quantities.
    """

    n: int
    r: float
    low: float | None = None
    high: float | None = None
    p: float | None = None
    is_told: bool = False


@dataclass(frozen=True)
class Quantity:
    """A field's rank correlation with the measure, over n rows and within rounds and arms."""

    field: str
    n: int
    raw: float
    within: Within | None


class Point(NamedTuple):
    """A quantity x and the measure y of one seed in a cell, a round of an arm."""

    cell: str
    seed: int
    x: float
    y: float


def correlations(run: FinishedRun) -> tuple[Quantity, ...]:
    """Correlates every recorded scalar, strongest first; nothing for the default probes alone."""
    fields = dict.fromkeys(field for row in run.rows for field in row if _is_quantity(field))
    found = [quantity for field in fields if (quantity := _quantity(run, field)) is not None]
    if all(one.field in DEFAULT_QUANTITIES for one in found):
        return ()
    p_values = {one.field: one.within.p for one in found if one.within and one.within.p is not None}
    told = {name for name, p in benjamini_hochberg(p_values).items() if p < LEVEL}
    marked = [
        replace(one, within=replace(one.within, is_told=one.field in told)) if one.within else one
        for one in found
    ]
    return tuple(sorted(marked, key=_strength, reverse=True))


def _is_quantity(field: str) -> bool:
    return field not in NO_QUANTITY and not field.startswith(OUTCOMES)


def _strength(one: Quantity) -> tuple[bool, float]:
    return one.within is not None, abs(one.within.r if one.within else one.raw)


def _quantity(run: FinishedRun, field: str) -> Quantity | None:
    points = [
        Point(f"{row['round']} {row['arm']}", row["seed"], x, y)
        for row in run.rows
        if (x := number(row.get(field))) is not None
        and (y := number(row.get(run.outcome))) is not None
    ]
    if len(points) < MIN_ROWS:
        return None
    raw = spearman([point.x for point in points], [point.y for point in points])
    return None if raw is None else Quantity(field, len(points), raw, within(points))


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Correlates the ranks, ties sharing their mean (Spearman); None where one is constant."""
    one_group = [0] * len(first)
    x, y = (_residuals(ranks(values), one_group) for values in (first, second))
    return _correlation(x, y)


def within(points: Sequence[Point]) -> Within | None:
    """Correlates what ranks within a round and arm are above their seed's mean.

    Rows of one seed are related, by its start and its data, and rows of one round or arm by their
    density and weights: neither is a relation of the two quantities. So each seed gives one r over
    its cells, and seeds are what varies: t interval over atanh(r). None with nothing to correlate.
    """
    seeds = np.array([point.seed for point in points])
    x, y = (
        _residuals(_ranked_by_cell(points, axis), [point.seed for point in points])
        for axis in ("x", "y")
    )
    found: dict[int, float] = {}
    for seed in dict.fromkeys(point.seed for point in points):
        own = seeds == seed
        if own.sum() >= MIN_ROWS and (r := _correlation(x[own], y[own])) is not None:
            found[seed] = math.atanh(max(-BOUND, min(BOUND, r)))
    estimate = paired(found, dict.fromkeys(found, 0.0))
    if estimate is None:
        return None
    r, n = math.tanh(estimate.difference), estimate.n
    if estimate.error is None or n < 3:
        return Within(n, r)
    # ranks of a cell sum to zero, so that two seeds' r correlate by 1 / (n - 1)^2
    error = estimate.error * math.sqrt((n - 1) / (n - 2))
    wider = replace(estimate, error=error)
    bounds, p = wider.bounds(), wider.p_above()
    assert bounds is not None
    assert p is not None
    low, high = map(math.tanh, bounds)
    return Within(n, r, low, high, 2 * min(p, 1 - p))


def _ranked_by_cell(points: Sequence[Point], axis: Literal["x", "y"]) -> list[float]:
    """Ranks the seeds of each cell, about its mean rank."""
    found, cells = [0.0] * len(points), dict[str, list[int]]()
    for place, point in enumerate(points):
        cells.setdefault(point.cell, []).append(place)
    for places in cells.values():
        own = ranks([getattr(points[i], axis) for i in places])
        for place, rank in zip(places, own, strict=True):
            found[place] = rank - (len(places) + 1) / 2
    return found


def _correlation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float | None:
    spread = math.sqrt(float(x @ x) * float(y @ y))
    if spread < 1e-9:  # ranks are multiples of a half: what is left is rounding
        return None
    return max(-1.0, min(1.0, float(x @ y) / spread))


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks values, 1 for the smallest; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared = np.cumsum(counts) - (counts - 1) / 2
    return [float(rank) for rank in shared[places]]


def _residuals(values: Sequence[float], groups: Sequence[int]) -> NDArray[np.float64]:
    """Subtracts from each value the mean of its group."""
    _, places = np.unique(groups, return_inverse=True)
    means = np.bincount(places, values) / np.bincount(places)
    return np.asarray(values) - means[places]
