"""The objective of regression that is measured by how answers and targets go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from lth_runner.problem.objective.confusion import linearised
from lth_runner.problem.objective.objective import in_float64
from lth_runner.problem.objective.squared_error import SquaredError
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.measure import Measure
from lth_runner.values.tree import Tree

MEASURES = {"pearson": Measure("pearson"), "spearman": Measure("spearman")}


@dataclass(frozen=True)
class Correlation:
    """Minimises the mean squared error of one number for each sample.

    Measures: ``pearson``, the linear correlation of answers and targets, ``spearman``, that of
    their ranks, the ``headline`` of both first; ``loss``, the mean squared error. Ranks are those
    of a whole split, equal values have the mean of theirs; answers that are all the same have no
    correlation and count 0. Raises UserError for another headline.
    """

    headline: Literal["pearson", "spearman"] = "pearson"
    _error: SquaredError = field(init=False, default_factory=SquaredError, repr=False)

    def __post_init__(self) -> None:
        if self.headline not in MEASURES:
            raise UserError(f"objective.headline: {nearest(str(self.headline), MEASURES)}")

    @property
    def measures(self) -> tuple[Measure, ...]:
        other = "spearman" if self.headline == "pearson" else "pearson"
        return MEASURES[self.headline], MEASURES[other], Measure("loss", "lower")

    def chance(self, num_classes: int | None) -> Mapping[str, float]:
        """Answers whatever the sample."""
        return {"pearson": 0.0, "spearman": 0.0}

    def loss(self, outputs: Tensor, targets: Tree) -> Tensor:
        return self._error.loss(outputs, targets)

    def weight(self, targets: Tree) -> float:
        return self._error.weight(targets)

    def totals(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes the totals of a whole split, which do not add up: see ``whole_totals``."""
        return self.whole_totals(self.sample_parts(outputs, targets))

    def sample_parts(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Keeps each sample's answer and target."""
        assert isinstance(targets, Tensor)
        return torch.stack([in_float64(outputs).flatten(), in_float64(targets).flatten()])

    def whole_totals(self, parts: Tensor) -> Tensor:
        """Sums the squared errors, and the products of deviations of values and of ranks."""
        error = (parts[0] - parts[1]).square().sum()
        ranks = torch.stack([mid_ranks(values) for values in parts])
        num = error.new_tensor(parts.shape[1])
        return torch.stack([num, error, *_products(parts), *_products(ranks)])

    def sample_values(self, parts: Tensor, totals: Tensor) -> Tensor:
        """Computes what each sample adds to the headline.

        Of ranks, that it moves others' ranks as well counts in.
        """
        if self.headline == "pearson":
            first, second = parts - parts.mean(1, keepdim=True)
            moments = [first, second, first**2, second**2, first * second]
            return linearised(torch.stack(moments), _of_moments)
        return _rank_values(parts)

    def values(self, totals: Tensor) -> dict[str, float]:
        num, error = totals[:2].tolist()
        found = {
            "pearson": _correlation(*totals[2:5].tolist()),
            "spearman": _correlation(*totals[5:8].tolist()),
            "loss": error / num if num else float("nan"),
        }
        return {measure.name: found[measure.name] for measure in self.measures}

    def check(self, outputs: Any, targets: Tree, num_classes: int | None) -> None:
        """Raises UserError for answers or targets that are not one number for each sample."""
        self._error.check(outputs, targets, num_classes)
        if isinstance(targets, Tensor) and targets.numel() != len(targets):
            raise UserError(
                f"objective=correlation needs one number for each sample, and targets have the "
                f"shape {tuple(targets.shape[1:])}: choose objective=regression"
            )


def mid_ranks(values: Tensor) -> Tensor:
    """Ranks values from 0, equal ones by the mean of the ranks that they take."""
    order = values.sort().values
    below = torch.searchsorted(order, values, right=False)
    up_to = torch.searchsorted(order, values, right=True)
    return (below + up_to - 1).double() / 2


def _products(pair: Tensor) -> Tensor:
    first, second = pair - pair.mean(1, keepdim=True)
    return torch.stack([(first**2).sum(), (second**2).sum(), (first * second).sum()])


def _correlation(first: float, second: float, both: float) -> float:
    return both / (first * second) ** 0.5 if first > 0 and second > 0 else 0.0


def _of_moments(mean: Tensor) -> Tensor:
    first, second = mean[2] - mean[0] ** 2, mean[3] - mean[1] ** 2
    below = first * second
    above = mean[4] - mean[0] * mean[1]
    return torch.where(below > 0, above / torch.where(below > 0, below, 1).sqrt(), 0)


def _rank_values(parts: Tensor) -> Tensor:
    """Linearises the correlation of ranks.

    With F the share below a value, half of those equal to it, and G that of the targets, it is
    C / sqrt(V W), with C the covariance of F and G and V, W their variances. A sample adds to C
    its own F G and what it adds to the F and G of all others. (Influence functions: Croux & Dehon,
    Statistical Methods & Applications, 2010.)
    """
    num = parts.shape[1]
    if any(bool((values == values[0]).all()) for values in parts):
        return parts.new_zeros(num)
    f, g = (mid_ranks(values) / num for values in parts)
    f, g = f - f.mean(), g - g.mean()
    cov, var_f, var_g = (f * g).mean(), (f * f).mean(), (g * g).mean()
    moved_f, moved_g = _shares_above(parts[0], g), _shares_above(parts[1], f)
    own_f, own_g = _shares_above(parts[0], f), _shares_above(parts[1], g)
    to_cov = f * g + moved_f + moved_g - 3 * cov
    to_f, to_g = f * f + 2 * own_f - 3 * var_f, g * g + 2 * own_g - 3 * var_g
    value = cov / (var_f * var_g).sqrt()
    return value + to_cov / (var_f * var_g).sqrt() - value / 2 * (to_f / var_f + to_g / var_g)


def _shares_above(values: Tensor, weights: Tensor) -> Tensor:
    """Computes for each value the mean over all of weight * (1 above it, 1/2 where equal)."""
    order = values.argsort()
    after = torch.cat([weights[order].flip(0).cumsum(0).flip(0), weights.new_zeros(1)])
    found = values[order].contiguous()
    above = after[torch.searchsorted(found, values, right=True)]
    not_below = after[torch.searchsorted(found, values, right=False)]
    return (above + not_below) / 2 / len(values)
