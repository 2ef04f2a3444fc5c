"""The trade-off of rewind step and sparsity as a model of two parameters, and how far it holds."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import least_squares

from lth_runner.runs.evidence.means import mean, std

MIN_DISTINCT = 3  # rewind steps, and sparsities, below which two parameters fit anything
MIN_R_SQUARED = 0.8
MAX_RESIDUAL = 2.0  # residual RMS in units of the spread over seeds
MAX_RELATIVE_ERROR = 0.5  # of a parameter that counts as identified
SATURATED = 5.0  # exp(-5) < 1 %: steps beyond 5 tau no longer tell tau
BETA_BOUNDS = (1e-5, 10.0)
NUM_STARTS = 7


@dataclass(frozen=True)
class Observation:
    """The test accuracy (0..1) of one ticket that started at `step` with `sparsity` removed."""

    step: int
    sparsity: float
    seed: int
    accuracy: float


@dataclass(frozen=True)
class Fit:
    """A(k, s) = dense (1 - exp(-k / tau)) (1 - s)^beta; k in steps, accuracies in 0..1.

    `residual`: root of the mean squared residual, n - 2 degrees of freedom, k > 0. `spread`:
    standard deviation over seeds within a (k, s), pooled; None for one seed. Errors: standard
    errors, trainings taken as independent. `num_at_zero` tickets with k = 0 are in no fit;
    `r_squared_with_zero` counts them. `doubts`: why not to trust the fit; empty when none is known.
    """

    dense: float
    tolerance: float
    tau: float
    beta: float
    tau_error: float
    beta_error: float
    num_points: int
    r_squared: float | None
    residual: float
    spread: float | None
    num_at_zero: int = 0
    accuracy_at_zero: float | None = None
    r_squared_with_zero: float | None = None
    doubts: tuple[str, ...] = ()

    @property
    def trusted(self) -> bool:
        """Whether there is no reason to distrust the fit."""
        return not self.doubts

    def accuracy(self, step: float, sparsity: float) -> float:
        """Computes A(k, s) by the model."""
        return float(_model(np.log((self.tau, self.beta)), step, sparsity, self.dense))

    def smallest_step(self, sparsity: float) -> float | None:
        """Computes k*(s) = -tau ln(1 - (1 - tolerance / dense) / (1 - s)^beta), in steps.

        None where (1 - tolerance / dense) / (1 - s)^beta >= 1: no rewind step is late enough.
        """
        needed = (1 - self.tolerance / self.dense) / (1 - sparsity) ** self.beta
        return None if needed >= 1 else max(0.0, -self.tau * math.log1p(-needed))

    @property
    def largest_sparsity(self) -> float:
        """The sparsity from which no rewind step suffices: 1 - (1 - tolerance/dense)^(1/beta)."""
        return 1 - max(0.0, 1 - self.tolerance / self.dense) ** (1 / self.beta)


def fit(points: Iterable[Observation], *, dense: float, tolerance: float) -> Fit | None:
    """Fits tau, beta > 0 by least squares over trainings, `dense` as measured; None for none.

    Tickets with k = 0 are left out: the model gives them accuracy 0 whatever tau and beta are, so
    they cannot move either. Counted in, they change R^2 alone, which is reported both ways. To
    shift k by one instead would only move the same misfit into tau.
    """
    found = tuple(points)
    used = [point for point in found if point.step > 0]
    zero = [point for point in found if point.step <= 0]
    if not used or dense <= 0:
        return None
    step = np.array([point.step for point in used], dtype=float)
    sparsity = np.array([point.sparsity for point in used])
    accuracy = np.array([point.accuracy for point in used])
    low, high = np.log([(step.min() / 40, BETA_BOUNDS[0]), (1e3 * step.max(), BETA_BOUNDS[1])])
    starts = np.linspace(low[0], high[0], NUM_STARTS + 2)[1:-1]
    solutions = [
        least_squares(
            lambda x: _model(x, step, sparsity, dense) - accuracy,
            (start, math.log(0.05)), bounds=(low, high), xtol=1e-12, ftol=1e-12, gtol=1e-12,
        )
        for start in starts
    ]  # fmt: skip
    best = min(solutions, key=lambda solution: float(solution.cost))
    squares = 2 * float(best.cost)
    residual = math.sqrt(squares / max(1, len(used) - 2))
    tau, beta = (float(value) for value in np.exp(best.x))
    relative = _relative_errors(best.jac, residual, len(used))
    all_squares = squares + math.fsum(point.accuracy**2 for point in zero)
    result = Fit(
        dense=dense, tolerance=tolerance, tau=tau, beta=beta,
        tau_error=tau * relative[0], beta_error=beta * relative[1],
        num_points=len(used),
        r_squared=_r_squared(squares, used),
        residual=residual,
        spread=seed_spread(used),
        num_at_zero=len(zero),
        accuracy_at_zero=mean(point.accuracy for point in zero) if zero else None,
        r_squared_with_zero=_r_squared(all_squares, found) if zero else None,
    )  # fmt: skip
    at_bound = [
        name for name, x, a, b in zip(("tau", "beta"), best.x, low, high, strict=True)
        if min(x - a, b - x) < 0.01
    ]  # fmt: skip
    return replace(result, doubts=tuple(_doubts(result, used, at_bound)))


def r_squared_words(value: float | None) -> str:
    """Writes R²: far below that of the mean alone, digits say nothing more."""
    if value is None:
        return "undefined"
    return "below −1" if value < -1 else f"{value:.3f}".replace("-", "−")


def seed_spread(points: Iterable[Observation]) -> float | None:
    """Pools the standard deviation over seeds at one (step, sparsity) by degrees of freedom."""
    cells: dict[tuple[int, float], list[float]] = {}
    for point in points:
        cells.setdefault((point.step, round(point.sparsity, 4)), []).append(point.accuracy)
    several = [values for values in cells.values() if len(values) > 1]
    freedom = sum(len(values) - 1 for values in several)
    if not freedom:
        return None
    squares = math.fsum((std(values) or 0.0) ** 2 * (len(values) - 1) for values in several)
    return math.sqrt(squares / freedom)


def _model(logarithms, step, sparsity, dense):  # type: ignore[no-untyped-def]  # arrays or numbers
    tau, beta = np.exp(logarithms)
    return dense * -np.expm1(-step / tau) * (1 - sparsity) ** beta


def _r_squared(squares: float, points: Sequence[Observation]) -> float | None:
    """Computes 1 - residual / total sum of squares; None where all accuracies are equal."""
    centre = mean(point.accuracy for point in points)
    total = math.fsum((point.accuracy - centre) ** 2 for point in points)
    return 1 - squares / total if total > 0 else None


def _relative_errors(jacobian: np.ndarray, residual: float, num: int) -> tuple[float, float]:
    """Computes the errors of log tau and log beta, s^2 (J^T J)^-1; infinite for a singular J."""
    singular = np.linalg.svd(jacobian, compute_uv=False)
    if num <= 2 or singular[-1] <= 1e-9 * max(1e-9, singular[0]):
        return math.inf, math.inf
    variances = residual**2 * np.diag(np.linalg.inv(jacobian.T @ jacobian))
    return math.sqrt(variances[0]), math.sqrt(variances[1])


def _doubts(fit: Fit, points: Sequence[Observation], at_bound: Sequence[str]) -> Iterable[str]:
    steps = {point.step for point in points}
    sparsities = {round(point.sparsity, 4) for point in points}
    if len(steps) < MIN_DISTINCT:
        yield f"fewer than {MIN_DISTINCT} rewind steps above 0 ({len(steps)})"
    if len(sparsities) < MIN_DISTINCT:
        yield f"fewer than {MIN_DISTINCT} sparsities ({len(sparsities)})"
    if fit.r_squared is None or fit.r_squared < MIN_R_SQUARED:
        yield f"R² is {r_squared_words(fit.r_squared)}, not at least {MIN_R_SQUARED:g}"
    if fit.spread is not None and fit.residual > MAX_RESIDUAL * fit.spread:
        ratio = f"{fit.residual / fit.spread:.1f} times" if fit.spread > 0 else "more than"
        yield f"residuals are {ratio} the spread over seeds: the form of the model is wrong"
    for name in at_bound:
        yield f"{name} lies at the bound of the search"
    if SATURATED * fit.tau <= min(steps):
        yield "tau is not identified: every rewind step lies far beyond it"
    elif not fit.tau_error <= MAX_RELATIVE_ERROR * fit.tau:
        yield "tau is not identified: its standard error exceeds half its value"
    if not fit.beta_error <= MAX_RELATIVE_ERROR * fit.beta:
        yield "beta is not identified: its standard error exceeds half its value"
