"""How many seeds, or test samples, would decide what is undecided."""

from __future__ import annotations

import math

from scipy.special import ndtri, stdtrit

from lth_runner.runs.evidence.estimate import LEVEL, Estimate

POWER = 0.8
MOST_SEEDS = 1000  # that are worth telling as what would decide
MOST_SAMPLES = 10**7


def seeds_needed(
    estimate: Estimate, limit: float, level: float = LEVEL, *, per_seed: int = 2
) -> int | None:
    """Computes the seeds of each side that decide about a limit with a power of 80 %.

    The least n with (s^2 / n + v) (t_{1-level} + t_{power})^2 <= (difference - limit)^2, were the
    difference seen the true one; s^2 / n is the variance over seeds, v what test samples leave
    however many seeds there are. None where no number of up to a thousand would do, or nothing is
    known of s. ``per_seed``: degrees of freedom that each further seed brings, 2 of two samples, 1
    of pairs.
    """
    seeds, samples = estimate.fixed, estimate.samples
    if estimate.error is None or seeds.error is None:
        return None
    variance, left = seeds.error**2 * seeds.n, samples.lasting if samples else 0.0
    distance = abs(estimate.difference - limit)
    for n in range(2, MOST_SEEDS + 1):
        freedom = max(estimate.freedom, per_seed * (n - 1))
        if (variance / n + left) * _reach(freedom, level) <= distance * distance:
            return n
    return None


def samples_hinder(
    estimate: Estimate, limit: float, level: float = LEVEL, *, per_seed: int = 2
) -> bool:
    """Whether it is the test samples, and not the seeds, that leave it undecided up to a thousand.

    So it is where fewer would do on these samples alone, and where v (z_{1-level} + z_{power})^2 >=
    (difference - limit)^2, so that no number of seeds at all would.
    """
    samples = estimate.samples
    if samples is None or seeds_needed(estimate, limit, level, per_seed=per_seed) is not None:
        return False
    distance = estimate.difference - limit
    if 0 < distance * distance <= samples.lasting * float(ndtri(1 - level) + ndtri(POWER)) ** 2:
        return True
    return seeds_needed(estimate.fixed, limit, level, per_seed=per_seed) is not None


def samples_needed(estimate: Estimate, limit: float, level: float = LEVEL) -> int | None:
    """Computes the test samples that decide, with as many seeds, at a power of 80 %.

    The least N' with (V_seeds - V_res + V_samples N / N') (t_{1-level} + t_{power})^2 <=
    (difference - limit)^2. None where no number would, or samples are not counted as drawn.
    """
    samples, seeds = estimate.samples, estimate.fixed.error
    if samples is None or seeds is None:
        return None
    distance = abs(estimate.difference - limit)
    # the more samples, the more it is the seeds' own part that is uncertain
    reach = _reach(min(estimate.freedom, estimate.fixed.freedom), level)
    room = distance * distance / reach - max(0.0, seeds * seeds - samples.residual)
    if room <= 0:
        return None
    found = math.ceil(samples.num * samples.variance / room)
    return found if found <= MOST_SAMPLES else None


def _reach(freedom: float, level: float) -> float:
    """(t_{1-level} + t_{power})^2, by which a squared distance exceeds the variance it decides."""
    return float(stdtrit(freedom, 1 - level) + stdtrit(freedom, POWER)) ** 2
