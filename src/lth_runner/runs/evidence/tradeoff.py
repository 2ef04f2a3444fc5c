"""The trade-off of rewind step and sparsity as a model of four parameters, and how far it holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from lth_runner.runs.evidence.estimate import CONFIDENCE, LEVEL

MIN_DISTINCT = 3  # rewind steps, and sparsities, below which the parameters fit anything
MAX_RATIO = 10.0  # of the ends of tau's interval, above which tau is not identified
LEAST_SHARE = 1e-9  # of the dense accuracy, that a tolerance is
NUM_STEPS = 400  # at which k* is sought

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Observation:
    """The test accuracy (0..1) of one training: a ticket that started at `step`, or dense."""

    step: int
    sparsity: float
    seed: int
    accuracy: float


@dataclass(frozen=True)
class Model:
    """A(k, s) = dense (1 - s)^b(k), b(k) = b_inf + b_0 exp(-k / tau); k in steps, A in 0..1.

    `b_inf`: how fast accuracy falls with density however late the rewinding, `b_0`: how much
    faster where a ticket goes back to the start.
    """

    dense: float
    b_inf: float
    b_0: float
    tau: float

    def exponent(self, step: float) -> float:
        """Computes b(k)."""
        return self.b_inf + self.b_0 * math.exp(-step / self.tau)

    def accuracy(self, step: float, sparsity: float) -> float:
        """Computes A(k, s)."""
        return self.dense * (1 - sparsity) ** self.exponent(step)

    def share(self, step: float, tolerance: float) -> float:
        """Computes b(k) / -ln(1 - tolerance / dense), which is 1 / -ln(1 - s_max(k))."""
        lost = min(max(tolerance / self.dense, LEAST_SHARE), 1 - LEAST_SHARE)
        return self.exponent(step) / -math.log1p(-lost)


@dataclass(frozen=True)
class Range:
    """A value with the ends of its 95 % interval; None: none, or beyond what was measured."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Fit:
    """The model as fitted to all trainings, and as fitted to resamplings of their seeds.

    `draws`: models with the chance of their resampling. `residual`: root of the mean squared
    residual. `spread`: standard deviation over seeds within a (k, s), pooled; None for one seed.
    `misfit`: p of an F test of the cells' means against the model; None where nothing tests it.
    `at_bound`: whether tau is one of the ends that were sought between.
    """

    model: Model
    draws: tuple[tuple[float, Model], ...]
    tolerance: float
    num_points: int
    num_seeds: int
    steps: tuple[int, ...]
    sparsities: tuple[float, ...]
    r_squared: float | None
    residual: float
    spread: float | None
    misfit: float | None
    at_bound: bool

    @property
    def trusted(self) -> bool:
        """Whether there is no reason to distrust the fit."""
        return not self.doubts

    def bounds(self, of: Callable[[Model], float]) -> tuple[float, float] | None:
        """Computes the 95 % interval of a quantity of the model; None for one seed.

        value ± t_{n-1} sqrt(n / (n - 1)) sd, with sd over the resamplings: of n seeds these
        vary less than seeds do, by that factor, and their percentiles cover too little.
        """
        found = self._interval(lambda one: np.array([of(one)]))
        return found and (float(found[0][0]), float(found[1][0]))

    def _interval(self, of: Callable[[Model], Numbers]) -> tuple[Numbers, Numbers] | None:
        if not self.draws:
            return None
        value, n = of(self.model), self.num_seeds
        chances = np.array([chance for chance, _ in self.draws])
        found = np.stack([of(one) for _, one in self.draws])
        variance = chances @ (found - chances @ found) ** 2
        half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * np.sqrt(variance * n / (n - 1))
        return value - half, value + half

    def parameter(self, name: str) -> Range:
        """Tells a parameter of the model with its interval; that of tau is one of its logarithm."""
        if name == "tau":
            found = self.bounds(lambda one: math.log(one.tau))
            found = found and (math.exp(found[0]), math.exp(min(found[1], 700.0)))
        else:
            found = self.bounds(lambda one: float(getattr(one, name)))
        return Range(getattr(self.model, name), *(found or (None, None)))

    def largest_sparsity(self, step: float) -> Range:
        """Tells s_max(k) = 1 - (1 - tolerance / dense)^(1 / b(k)): the sparsest ticket to match.

        Its interval is that of b(k) / -ln(1 - tolerance / dense). 1 where b(k) <= 0: no loss.
        """
        found = self.bounds(lambda one: one.share(step, self.tolerance))
        value = _sparsity(self.model.share(step, self.tolerance))
        return Range(value, *(map(_sparsity, found[::-1]) if found else (None, None)))

    def smallest_step(self, sparsity: float) -> Range:
        """Tells k*(s), the smallest step with s_max(k) >= s, of those up to the last one measured.

        Its interval holds the steps k at which the interval of s_max(k) holds s; None: later than
        the last step, or never. Ends are told to a 400th of the range.
        """
        if not 0 < sparsity < 1:  # all weights match at any step, none at no step
            return Range(*((None if sparsity else 0.0,) * 3))
        needed = -1 / math.log1p(-sparsity)
        return Range(*(_first(self._places, shares, needed) for shares in self._shares))

    @cached_property
    def _places(self) -> list[float]:
        return [max(self.steps) * (i / NUM_STEPS) ** 2 for i in range(NUM_STEPS + 1)]

    @cached_property
    def _shares(self) -> tuple[Numbers | None, ...]:
        """Lists 1 / -ln(1 - s_max) at all places: fitted, lower and upper ends."""

        def shares(one: Model) -> Numbers:
            return np.array([one.share(step, self.tolerance) for step in self._places])

        low, high = self._interval(shares) or (None, None)
        return shares(self.model), low, high

    @cached_property
    def doubts(self) -> tuple[str, ...]:
        """Says why not to trust the fit; empty when no reason is known."""
        return tuple(_doubts(self))


def _sparsity(share: float) -> float:
    return 1.0 if share <= 0 else -math.expm1(-1 / share)


def _first(places: Sequence[float], shares: Numbers | None, needed: float) -> float | None:
    """Finds where shares first fall to what is needed, between two places by a straight line."""
    if shares is None:
        return None
    for i, share in enumerate(shares):
        if share > needed:
            continue
        if not i:
            return 0.0
        before = shares[i - 1]
        part = (before - needed) / (before - share)
        return float(places[i - 1] + part * (places[i] - places[i - 1]))
    return None


def r_squared_words(value: float | None) -> str:
    """Writes R²: far below that of the mean alone, digits say nothing more."""
    if value is None:
        return "undefined"
    return "below −1" if value < -1 else f"{value:.3f}".replace("-", "−")


def _doubts(fit: Fit) -> Iterable[str]:
    if len(fit.steps) < MIN_DISTINCT:
        yield f"fewer than {MIN_DISTINCT} rewind steps ({len(fit.steps)})"
    if len(fit.sparsities) < MIN_DISTINCT:
        yield f"fewer than {MIN_DISTINCT} sparsities ({len(fit.sparsities)})"
    if fit.num_seeds < 2:
        yield "one seed does not tell how much seeds vary"
    if fit.misfit is not None and fit.misfit < LEVEL:
        yield (
            "means differ from the model by more than seeds vary "
            f"(F test, p {'< 0.001' if fit.misfit < 0.001 else f'= {fit.misfit:.2g}'}): "
            "its form is wrong"
        )
    early, tau = fit.parameter("b_0"), fit.parameter("tau")
    if early.low is not None and early.low <= 0:
        yield "that later rewinding loses less is not shown (b_0), so that tau is not identified"
    elif fit.at_bound:
        yield "tau is not identified: it lies at the bound of the search"
    elif tau.low is not None and tau.high is not None and tau.high > MAX_RATIO * tau.low:
        yield f"tau is not identified: its interval is {tau.low:.3g} to {tau.high:.3g} steps"
