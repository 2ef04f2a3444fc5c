"""What the trainings of an arm made of each test sample, and what other samples would change.

A value of arm a, seed s and sample j is taken as y_asj = mu_a + S_as + I_aj + R_asj: the seed's own
part, the sample's own part, which all trainings of the arm share, and a residual.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lth_runner.runs.samples import Values


@dataclass(frozen=True, eq=False)
class Table:
    """Seeds x samples of one arm: each sample's mean over the seeds, and the residual variance.

    ``residual`` is MS_res = sum_sj (y_sj - y_s. - y_.j + y_..)^2 / ((n - 1) (N - 1)), which
    estimates var(R); None for one seed.
    """

    n: int
    by_sample: Values
    residual: float | None

    @classmethod
    def of(cls, trainings: Sequence[Values]) -> Table | None:
        """Lays trainings beside each other; None unless all are of as many samples, two or more."""
        lengths = {len(values) for values in trainings}
        if len(lengths) != 1 or min(lengths) < 2:
            return None
        values = np.stack(trainings)
        (n, num), by_sample = values.shape, values.mean(0)
        if n < 2:
            return cls(n, by_sample, None)
        rest = values - by_sample - values.mean(1, keepdims=True) + values.mean()
        return cls(n, by_sample, float(np.square(rest).sum()) / ((n - 1) * (num - 1)))


@dataclass(frozen=True)
class SamplePart:
    """The parts of a variance by samples: var_j(D_j) / N, and the residual's that is in it.

    ``residuals``: (variance, degrees of freedom) of each arm. The seeds' part holds them too.
    """

    num: int
    variance: float
    residuals: tuple[tuple[float, float], ...] = ()

    @property
    def residual(self) -> float:
        """The part of the variance that a mean over more seeds takes away."""
        return sum(variance for variance, _ in self.residuals)

    @property
    def lasting(self) -> float:
        """The part that no number of seeds takes away."""
        return max(0.0, self.variance - self.residual)


def sample_part(first: Table | None, second: Table | None) -> SamplePart | None:
    """Estimates how much first - second varies with the samples, which both arms share.

    With D_j = y_1.j - y_2.j, each a mean over the arm's own seeds, var_j(D_j) / N estimates
    var(I_1 - I_2) / N + var(R_1) / (n_1 N) + var(R_2) / (n_2 N). An arm of one seed, which has no
    residual of its own, is taken to have the other's. None without both tables, or of other
    numbers of samples.
    """
    if first is None or second is None or len(first.by_sample) != len(second.by_sample):
        return None
    num = len(first.by_sample)
    residuals = []
    for one, other in ((first, second), (second, first)):
        known = one if one.residual is not None else other
        if known.residual is not None:
            residuals.append((known.residual / (one.n * num), (known.n - 1.0) * (num - 1)))
    return SamplePart(num, _variance_of_mean(first.by_sample - second.by_sample), tuple(residuals))


def paired_part(differences: Table | None) -> SamplePart | None:
    """Estimates how much a mean of paired differences varies with the samples."""
    if differences is None:
        return None
    num, residual = len(differences.by_sample), differences.residual
    freedom = (differences.n - 1.0) * (num - 1)
    residuals = () if residual is None else ((residual / (differences.n * num), freedom),)
    return SamplePart(num, _variance_of_mean(differences.by_sample), residuals)


def _variance_of_mean(values: Values) -> float:
    return float(values.var(ddof=1)) / len(values)
