"""The trade-off model fitted to trainings, and to resamplings of their seeds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import fdtrc

from lth_runner.runs.evidence.means import mean, std
from lth_runner.runs.evidence.tradeoff import Fit, Model, Observation

NUM_PARAMETERS = 4
BEYOND = 20.0  # tau is sought from a 20th of the smallest step to 20 times the largest
MOST_DRAWS = 200
NUM_TAUS = 25
LEAST = 1e-4  # accuracies below are taken as this much, for their logarithm

Numbers = NDArray[np.float64]


def fit(points: Iterable[Observation], *, tolerance: float) -> Fit | None:
    """Fits the model by least squares, and again to resamplings of the seeds.

    A dense training is an observation of sparsity 0. None without a ticket that starts above
    step 0, where nothing tells tau. Resampled are seeds with all their trainings (a bootstrap of
    clusters: Davison and Hinkley, Bootstrap Methods and their Application, 1997, 3.8): all ways
    to draw n of n seeds up to n = 5, each with its chance; else 200 at random.
    """
    found = tuple(points)
    steps = tuple(sorted({one.step for one in found if one.sparsity > 0}))
    if not steps or steps[-1] <= 0 or mean(one.accuracy for one in found) <= tolerance:
        return None
    cells = _Cells.of(found)
    num = len(cells.seeds)
    model = cells.fitted(np.ones(num))
    drawn = _resamplings(num) if num > 1 else []
    squares = [(p.accuracy - model.accuracy(p.step, p.sparsity)) ** 2 for p in found]
    spread, edges = seed_spread(found), cells.taus[[0, -1]]
    return Fit(
        model=model,
        draws=tuple((chance, cells.fitted(counts)) for chance, counts in drawn),
        tolerance=tolerance,
        num_points=len(found),
        num_seeds=num,
        steps=steps,
        sparsities=tuple(sorted({_place(one)[1] for one in found if one.sparsity > 0})),
        r_squared=_r_squared(math.fsum(squares), found),
        residual=math.sqrt(math.fsum(squares) / max(1, len(found) - NUM_PARAMETERS)),
        spread=spread,
        misfit=_misfit(found, model, spread),
        at_bound=bool(np.min(np.abs(np.log(model.tau / edges))) < 0.05),
    )


@dataclass(frozen=True)
class _Cells:
    """Accuracies as seeds x (step, sparsity), NaN where a seed has none, and the taus to try."""

    seeds: tuple[int, ...]
    step: Numbers
    logarithm: Numbers  # ln(1 - s)
    accuracy: Numbers
    taus: Numbers

    @staticmethod
    def of(points: Sequence[Observation]) -> _Cells:
        seeds = tuple(sorted({one.seed for one in points}))
        places = sorted({_place(one) for one in points})
        values: dict[tuple[int, int], list[float]] = {}
        for one in points:
            at = seeds.index(one.seed), places.index(_place(one))
            values.setdefault(at, []).append(one.accuracy)
        accuracy = np.full((len(seeds), len(places)), np.nan)
        for at, several in values.items():
            accuracy[at] = mean(several)
        step = np.array([float(k) for k, _ in places])
        logarithm = np.log1p(-np.array([s for _, s in places]))
        above = step[(step > 0) & (logarithm < 0)]
        taus = np.geomspace(above.min() / BEYOND, BEYOND * above.max(), NUM_TAUS)
        return _Cells(seeds, step, logarithm, accuracy, taus)

    def fitted(self, counts: Numbers) -> Model:
        """Fits the model to seeds that count so many times.

        Least squares of ln A, weighted by A^2, which to first order are those of A: ln A is
        linear in all but tau, so that the search is one over tau alone.
        """
        weights = counts[:, None] * ~np.isnan(self.accuracy)
        num = weights.sum(axis=0)
        known = num > 0
        centres = (weights * np.nan_to_num(self.accuracy)).sum(axis=0)[known] / num[known]
        centres = np.maximum(centres, LEAST)
        root = np.sqrt(num[known]) * centres
        target = root * np.log(centres)
        step, logarithm = self.step[known], self.logarithm[known]

        def solved(log_tau: float) -> tuple[Numbers, float]:
            late = root * logarithm
            columns = np.stack([root, late, late * np.exp(-step / math.exp(log_tau))], axis=1)
            found = np.linalg.lstsq(columns, target, rcond=None)[0]
            return found, float(np.sum((columns @ found - target) ** 2))

        tried = np.log(self.taus)
        best = int(np.argmin([solved(one)[1] for one in tried]))
        low, high = tried[max(0, best - 1)], tried[min(len(tried) - 1, best + 1)]
        log_tau = float(
            minimize_scalar(
                lambda x: solved(x)[1], bounds=(low, high), method="bounded",
                options={"xatol": 1e-6},
            ).x
        )  # fmt: skip
        log_dense, b_inf, b_0 = (float(x) for x in solved(log_tau)[0])
        return Model(math.exp(log_dense), b_inf, b_0, math.exp(log_tau))


def _place(one: Observation) -> tuple[int, float]:
    """The cell of a training; of the dense network, which starts at no step, there is one."""
    rounded = round(one.sparsity, 4)
    sparsity = rounded if rounded < 1 else one.sparsity  # whose logarithm is finite
    return (one.step if sparsity > 0 else 0), sparsity


def _resamplings(num: int) -> list[tuple[float, Numbers]]:
    """Lists how often each seed is drawn, with the chance of that."""
    if math.comb(2 * num - 1, num) > MOST_DRAWS:
        random = np.random.default_rng(0)
        drawn = random.multinomial(num, [1 / num] * num, size=MOST_DRAWS)
        return [(1 / MOST_DRAWS, counts.astype(float)) for counts in drawn]
    found = []
    for chosen in combinations_with_replacement(range(num), num):
        counts = [chosen.count(i) for i in range(num)]
        ways = math.factorial(num) // math.prod(map(math.factorial, counts))
        found.append((ways / num**num, np.array(counts, dtype=float)))
    return found


# --- how well it describes them


def seed_spread(points: Iterable[Observation]) -> float | None:
    """Pools the standard deviation over seeds at one (step, sparsity) by degrees of freedom."""
    squares, freedom = _within(points)
    return math.sqrt(squares / freedom) if freedom else None


def _within(points: Iterable[Observation]) -> tuple[float, int]:
    several = [values for values in _by_cell(points).values() if len(values) > 1]
    squares = math.fsum((std(values) or 0.0) ** 2 * (len(values) - 1) for values in several)
    return squares, sum(len(values) - 1 for values in several)


def _by_cell(points: Iterable[Observation]) -> dict[tuple[int, float], list[float]]:
    cells: dict[tuple[int, float], list[float]] = {}
    for one in points:
        cells.setdefault(_place(one), []).append(one.accuracy)
    return cells


def _misfit(points: Sequence[Observation], model: Model, spread: float | None) -> float | None:
    """Computes the p of cells' means that scatter about the model no more than seeds let them."""
    cells = _by_cell(points)
    ours, freedom = len(cells) - NUM_PARAMETERS, len(points) - len(cells)
    if spread is None or ours < 1:
        return None
    squares = math.fsum(
        len(values) * (mean(values) - model.accuracy(*place)) ** 2
        for place, values in cells.items()
    )
    if spread <= 1e-9:
        return 1.0 if math.sqrt(squares) < 1e-6 else 0.0
    return float(fdtrc(ours, freedom, squares / ours / spread**2))


def _r_squared(squares: float, points: Sequence[Observation]) -> float | None:
    """Computes 1 - residual / total sum of squares; None where all accuracies are equal."""
    centre = mean(point.accuracy for point in points)
    total = math.fsum((point.accuracy - centre) ** 2 for point in points)
    return 1 - squares / total if total > 0 else None
