"""Correlations of what was recorded with the headline measure, with density and without it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri  # inverse of the normal distribution; loads fast

from lth_runner.runs.evidence.means import number
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.verdict import CONFIDENCE

MIN_ROWS = 5  # an interval needs n > 3, and four points say little
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
class Correlation:
    """A correlation r over n rows with its 95 % interval, None where n is too small."""

    n: int
    r: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Quantity:
    """A field's correlation with the measure, over all rows and within rounds."""

    field: str
    raw: Correlation
    within: Correlation | None


def correlations(run: FinishedRun) -> tuple[Quantity, ...]:
    """Correlates every recorded scalar, strongest first; nothing for the default probes alone."""
    fields = dict.fromkeys(field for row in run.rows for field in row if _is_quantity(field))
    found = [quantity for field in fields if (quantity := _quantity(run, field)) is not None]
    if all(one.field in DEFAULT_QUANTITIES for one in found):
        return ()
    return tuple(sorted(found, key=_strength, reverse=True))


def _is_quantity(field: str) -> bool:
    return field not in NO_QUANTITY and not field.startswith(OUTCOMES)


def _strength(one: Quantity) -> tuple[bool, float]:
    return one.within is not None, abs((one.within or one.raw).r)


def _quantity(run: FinishedRun, field: str) -> Quantity | None:
    points = [
        (row["round"], x, y)
        for row in run.rows
        if (x := number(row.get(field))) is not None
        and (y := number(row.get(run.outcome))) is not None
    ]
    if len(points) < MIN_ROWS:
        return None
    rounds, first, second = zip(*points, strict=True)
    raw = spearman(first, second)
    return None if raw is None else Quantity(field, raw, within(first, second, rounds))


def spearman(first: Sequence[float], second: Sequence[float]) -> Correlation | None:
    """Correlates the ranks, ties sharing their mean (Spearman); None where one is constant."""
    return within(first, second, [0] * len(first))


def within(
    first: Sequence[float], second: Sequence[float], groups: Sequence[int]
) -> Correlation | None:
    """Correlates, given the group, what ranks differ from their group's mean (partial correlation).

    r = sum(x y) / sqrt(sum(x^2) sum(y^2)), interval tanh(atanh(r) +- 1.96 se) with
    se^2 = (1 + r^2 / 2) / (n - k - 3), k variables controlled (Bonett and Wright, Psychometrika
    2000). Groups enter as k = g - 1 variables, so that any dependence on them is taken out, not
    only a linear one. None where nothing differs within the groups.
    """
    x, y = (_centred(ranks(values), groups) for values in (first, second))
    spread = math.sqrt(float(x @ x) * float(y @ y))
    if spread < 1e-9:  # ranks are multiples of a half: what is left is rounding
        return None
    n, r = len(x), max(-1.0, min(1.0, float(x @ y) / spread))
    freedom = n - (len(set(groups)) - 1) - 3
    if freedom < 1:
        return Correlation(n, r, None, None)
    if abs(r) > 1 - 1e-12:
        return Correlation(n, r, r, r)
    half = float(ndtri((1 + CONFIDENCE) / 2)) * math.sqrt((1 + r * r / 2) / freedom)
    return Correlation(n, r, math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half))


def ranks(values: Sequence[float]) -> list[float]:
    """Ranks values, 1 for the smallest; equal values share the mean of their ranks."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared = np.cumsum(counts) - (counts - 1) / 2
    return [float(rank) for rank in shared[places]]


def _centred(values: Sequence[float], groups: Sequence[int]) -> NDArray[np.float64]:
    """Subtracts from each value the mean of its group."""
    _, places = np.unique(groups, return_inverse=True)
    means = np.bincount(places, values) / np.bincount(places)
    return np.asarray(values) - means[places]
