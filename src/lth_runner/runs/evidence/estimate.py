"""What a few seeds say of a difference: an estimate, its interval, and one of three words.

Whatever a page, a table or a claim says of a difference is decided here, by one rule: *shown* where
its one-sided interval lies above the limit, *refuted* where it lies below, else *undecided*.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from scipy.special import psi, stdtr, stdtrit, zeta  # Student t and its inverse; loads fast

from lth_runner.runs.evidence.by_sample import SamplePart, Table, paired_part, sample_part
from lth_runner.runs.evidence.means import mean, std

Word = Literal["shown", "refuted", "undecided"]
Key = TypeVar("Key", bound=Hashable)
LEVEL = 0.05  # chance of a wrong word, each way, at the limit: of a match, of a claim
DIFFERENCE_LEVEL = 0.025  # of a difference of either sign: its 95 % interval leaves out 0
CONFIDENCE = 0.95  # of the intervals that are told
ROUNDING = 1e-9  # 0.970 - 0.972 is not exactly -0.002 in binary
MIN_CELLS = 3  # variances from which their own spread is known


@dataclass(frozen=True)
class Estimate:
    """A mean difference over n seeds (the fewer of both sides) with its standard error.

    ``error`` is None for one seed, and where nothing differs at all, so that nothing tells how
    much seeds vary. ``freedom``: degrees of freedom of Student's t. Where test samples are counted
    as drawn, ``samples`` is their part of the variance, and ``fixed`` the estimate without it.
    """

    n: int
    difference: float
    error: float | None = None
    freedom: float = 0.0
    samples: SamplePart | None = None
    seeds: tuple[float, float] | None = None  # error and freedom of the seeds alone

    @property
    def fixed(self) -> Estimate:
        """The same of these samples alone, whatever others would say."""
        if self.seeds is None:
            return self
        return Estimate(self.n, self.difference, *self.seeds)

    def bounds(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """Computes the two-sided t interval; None without an error."""
        if self.error is None:
            return None
        half = float(stdtrit(self.freedom, (1 + confidence) / 2)) * self.error
        return self.difference - half, self.difference + half

    @property
    def low(self) -> float | None:
        """The lower end of the 95 % interval."""
        found = self.bounds()
        return found and found[0]

    @property
    def high(self) -> float | None:
        """The upper end of the 95 % interval."""
        found = self.bounds()
        return found and found[1]

    def p_above(self, limit: float = 0.0) -> float | None:
        """Computes the one-sided p of 'the true difference is at most the limit'."""
        if self.error is None:
            return None
        return float(stdtr(self.freedom, (limit - self.difference) / self.error))

    def p_within(self, margin: float) -> tuple[float, float] | None:
        """Computes the p-values for and against 'the true difference lies within a margin of 0'.

        Two one-sided tests (Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics, 1987).
        """
        low, high = self.p_above(-margin), (-self).p_above(-margin)
        if low is None or high is None:
            return None
        return max(low, high), min(1 - low, 1 - high)

    def __neg__(self) -> Estimate:
        return replace(self, difference=-self.difference)


def decide(estimate: Estimate | None, limit: float = 0.0, level: float = LEVEL) -> Word:
    """Says whether a true difference lies above a limit.

    Either word is wrong with at most the chance ``level`` where the truth is at the limit.
    """
    p = None if estimate is None else estimate.p_above(limit)
    if p is None:
        return "undecided"
    return "shown" if p < level else "refuted" if 1 - p < level else "undecided"


def holm(p_values: Mapping[Key, float]) -> dict[Key, float]:
    """Adjusts p-values so that any wrong one among them has the chance of one (Holm, 1979)."""
    found: dict[Key, float] = {}
    largest = 0.0
    for place, (name, p) in enumerate(sorted(p_values.items(), key=lambda one: one[1])):
        largest = max(largest, min(1.0, (len(p_values) - place) * p))
        found[name] = largest
    return found


def decide_all(
    estimates: Mapping[Key, Estimate | None], limit: float, level: float
) -> dict[Key, Word]:
    """Says of each whether its true difference lies above a limit, all of them counted in (Holm).

    Any wrong word among the shown has the chance ``level``, and any among the refuted.
    """
    known = {
        key: p for key, one in estimates.items() if one and (p := one.p_above(limit)) is not None
    }
    above, below = holm(known), holm({key: 1 - p for key, p in known.items()})

    def word(key: Key) -> Word:
        if above.get(key, 1.0) < level:
            return "shown"
        return "refuted" if below.get(key, 1.0) < level else "undecided"

    return {key: word(key) for key in estimates}


def benjamini_hochberg(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusts p-values so that those below q hold a share of at most q wrong ones.

    Benjamini and Hochberg, Journal of the Royal Statistical Society B, 1995.
    """
    found, smallest, num = {}, 1.0, len(p_values)
    ordered = sorted(p_values.items(), key=lambda one: one[1])
    for place, (name, p) in reversed(list(enumerate(ordered, 1))):
        smallest = min(smallest, p * num / place)
        found[name] = smallest
    return found


# --- from values to estimates


@dataclass(frozen=True)
class Sample:
    """Values of one arm in one round: how many, their mean, their variance as it is estimated.

    ``table``: what the trainings made of each test sample, where these count as drawn.
    """

    n: int
    mean: float
    variance: float | None
    freedom: float
    table: Table | None = None


def sample(
    values: Sequence[float], near: Sequence[Sequence[float]] = (), step: float = 0
) -> Sample:
    """Estimates a mean and a variance; the variances of neighbouring cells steady it.

    s^2 = (d0 s0^2 + nu s^2) / (d0 + nu), with s0^2 and d0 by the neighbours' log variances (Smyth,
    Statistical Applications in Genetics and Molecular Biology, 2004); never more degrees of
    freedom than all cells have together. ``step``: the smallest difference that the measure
    knows, one image of a test set: values that are equal by it vary by step^2 / 12 at least.
    """
    n, centre, seen = len(values), mean(values), _variance(values)
    least = step * step / 12
    others = [(v, len(one) - 1) for one in near if (v := _variance(one)) is not None]
    if seen is None or not (seen > 0 or any(variance > 0 for variance, _ in others)):
        return Sample(n, centre, None, 0.0)
    own = max(seen, least)
    cells = [(own, n - 1), *((max(variance, least), freedom) for variance, freedom in others)]
    prior, weight = _prior([cell for cell in cells if cell[0] > 0])
    if not seen and not weight:  # a step tells how values are rounded, not how seeds vary
        return Sample(n, centre, None, 0.0)
    weight = min(weight, sum(freedom for _, freedom in cells) - (n - 1))
    variance = (weight * prior + (n - 1) * own) / (weight + n - 1)
    return Sample(n, centre, variance, weight + n - 1)


def _variance(values: Sequence[float]) -> float | None:
    """Computes a variance, which is zero where only rounding tells the values apart."""
    spread = _spread(values, size=abs(mean(values)))
    return None if spread is None else spread * spread


def _spread(values: Sequence[float], size: float) -> float | None:
    """Computes a standard deviation, zero where it is no more than rounding at that size."""
    found = std(values)
    return 0.0 if found is not None and found <= ROUNDING * size else found


def _prior(cells: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """Estimates s0^2 and d0 of variances that scatter about a common one as F does."""
    if len(cells) < MIN_CELLS:
        return 0.0, 0.0
    centred = [
        math.log(variance) - float(psi(freedom / 2)) + math.log(freedom / 2)
        for variance, freedom in cells
    ]
    centre, spread = mean(centred), std(centred) or 0.0
    beyond = spread * spread - mean(float(zeta(2, freedom / 2)) for _, freedom in cells)
    if beyond <= 0:  # they scatter no more than variances of one truth do
        return math.exp(centre), math.inf
    half = _inverse_trigamma(beyond)
    return math.exp(centre + float(psi(half)) - math.log(half)), 2 * half


def _inverse_trigamma(value: float) -> float:
    """Solves trigamma(x) = value by Newton's steps on 1 / trigamma, which is nearly linear."""
    found = 0.5 + 1 / value
    for _ in range(50):
        now = float(zeta(2, found))
        change = now * (1 - now / value) / (-2 * float(zeta(3, found)))
        found += change
        if abs(change) < 1e-8 * found:
            break
    return found


def two_sample(first: Sample, second: Sample) -> Estimate:
    """Estimates first - second from samples of their own (Welch), and over test samples in common.

    A side that does not tell how much it varies, by one value or equal ones, is taken to vary as
    the other does.
    """
    n, difference = min(first.n, second.n), first.mean - second.mean
    if first.variance is None and second.variance is None:
        return Estimate(n, difference)
    part = sample_part(first.table, second.table)
    if first.variance is None or second.variance is None:
        known = first if second.variance is None else second
        assert known.variance is not None
        error = math.sqrt(known.variance * (1 / first.n + 1 / second.n))
        return over_samples(Estimate(n, difference, error, known.freedom), part)
    ours, theirs = first.variance / first.n, second.variance / second.n
    freedom = (ours + theirs) ** 2 / (ours**2 / first.freedom + theirs**2 / second.freedom)
    return over_samples(Estimate(n, difference, math.sqrt(ours + theirs), freedom), part)


def over_samples(seeds: Estimate, part: SamplePart | None) -> Estimate:
    """Adds to an estimate over seeds what its difference varies by over test samples.

    Over new seeds and new samples, with the parts of ``by_sample`` and n_a seeds of each arm,

        Var = sum_a var(S_a) / n_a + var(I_1 - I_2) / N + sum_a var(R_a) / (n_a N).

    The variance over seeds of an arm's means estimates var(S_a) + var(R_a) / N, that of D_j over
    samples the last two terms: each holds the residual, which is counted once by taking it off,

        Var = sum_a s_a^2 / n_a + var_j(D_j) / N - sum_a MS_res,a / (n_a N),

    never below the first or the second alone. Of paired differences that is (MS_seed + MS_sample -
    MS_res) / (n N), of the balanced two-way table. Degrees of freedom as Satterthwaite (Biometrics
    Bulletin, 1946): Var^2 over the sum of each term's square over its own degrees.
    """
    if part is None or seeds.error is None:
        return seeds
    by_seed, by_sample, residual = seeds.error**2, part.variance, part.residual
    total = by_seed + by_sample - residual
    if residual >= min(by_seed, by_sample):
        total, freedom = max((by_seed, seeds.freedom), (by_sample, part.num - 1.0))
    else:
        terms = ((by_seed, seeds.freedom), (by_sample, part.num - 1.0), *part.residuals)
        freedom = total**2 / sum(variance**2 / degrees for variance, degrees in terms)
    alone = (seeds.error, seeds.freedom)
    return replace(seeds, error=math.sqrt(total), freedom=freedom, samples=part, seeds=alone)


def one_sample(found: Sample, value: float) -> Estimate:
    """Estimates a sample's mean less a known value."""
    if found.variance is None:
        return Estimate(found.n, found.mean - value)
    error = math.sqrt(found.variance / found.n)
    return Estimate(found.n, found.mean - value, error, found.freedom)


def paired(
    first: Mapping[int, float], second: Mapping[int, float], differences: Table | None = None
) -> Estimate | None:
    """Estimates first - second by the differences of common seeds; None without one.

    ``differences``: those of each test sample, where these count as drawn.
    """
    common = [seed for seed in first if seed in second]
    found = [first[seed] - second[seed] for seed in common]
    if not found:
        return None
    # differences are rounded as what they are of, which may be far larger
    size = max(abs(of[seed]) for of in (first, second) for seed in common)
    n, spread = len(found), _spread(found, size)
    if not spread:  # all equal: how coarse the measure is, not how certain
        return Estimate(n, mean(found))
    seeds = Estimate(n, mean(found), spread / math.sqrt(n), n - 1)
    return over_samples(seeds, paired_part(differences))
