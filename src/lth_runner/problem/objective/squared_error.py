"""The objective of regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_runner.problem.objective.objective import check_is_tensor, in_float64, mean_loss
from lth_runner.values.errors import UserError
from lth_runner.values.measure import Measure
from lth_runner.values.tree import Tree, describe

ROUNDING = 1e-14  # of sums in float64, by the sum itself


@dataclass(frozen=True)
class SquaredError:
    """Minimises the mean of (output - target)^2 over samples and places.

    Measures: ``r2``, 1 - the error over that of the mean of the split's own targets, place by
    place, so that a network that has learned nothing reaches 0; and ``loss``, the mean squared
    error. Both add up over places: one of large variance outweighs others.
    """

    @property
    def measures(self) -> tuple[Measure, ...]:
        return Measure("r2"), Measure("loss", "lower")

    def chance(self, num_classes: int | None) -> Mapping[str, float]:
        """Answers with the mean of the targets."""
        return {"r2": 0.0}

    def loss(self, outputs: Tensor, targets: Tree) -> Tensor:
        return F.mse_loss(outputs, _values(targets))

    def weight(self, targets: Tree) -> float:
        return float(_values(targets).numel())

    def totals(self, outputs: Tensor, targets: Tree) -> Tensor:
        return self.totals_by_sample(outputs, targets).sum(1)

    def terms(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes the squared error of every place."""
        return F.mse_loss(outputs, _values(targets), reduction="none")

    def totals_by_sample(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes what each sample adds to ``totals``."""
        wanted = in_float64(_values(targets)).reshape(len(targets), -1)
        error = (in_float64(outputs).reshape(wanted.shape) - wanted).square().sum(1)
        alone = torch.stack([torch.ones_like(error), error])
        return torch.cat([alone, wanted.t(), wanted.square().t()])

    def averaged(self, outputs: Tensor) -> Tensor:
        """Takes the mean of the networks' answers."""
        return outputs.mean(0)

    def sample_parts(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Sums each sample's squared errors."""
        wanted = in_float64(_values(targets)).reshape(1, len(targets), -1)
        return (in_float64(outputs).reshape(wanted.shape) - wanted).square().sum(2)

    def sample_values(self, parts: Tensor, totals: Tensor) -> Tensor:
        """Computes what each sample adds to r2; the spread of the targets is taken as it is."""
        return 1 - (1 - self.values(totals)["r2"]) * parts[0] / parts[0].mean()

    def values(self, totals: Tensor) -> dict[str, float]:
        num, error = totals[:2].tolist()
        first, second = totals[2:].chunk(2)
        spread = float((second - first.square() / num).sum()) if num else 0.0
        # equal targets, but for rounding: nothing to explain
        has_spread = num > 0 and spread > ROUNDING * float(second.sum())
        r2 = 1 - error / spread if has_spread else float("nan")
        return {"r2": r2, "loss": mean_loss(error, num * len(first))}

    def check(self, outputs: Any, targets: Tree, num_classes: int | None) -> None:
        """Raises UserError for answers of another shape than the targets, and for class numbers."""
        check_is_tensor(outputs)
        if not isinstance(targets, Tensor) or not targets.is_floating_point():
            raise UserError(
                f"objective=regression and correlation need floating-point targets, not "
                f"{describe(targets)}: choose objective=classification for class numbers"
            )
        if outputs.shape != targets.shape:
            raise UserError(
                f"the model answers with shape {tuple(outputs.shape[1:])} for one input, but the "
                f"targets have {tuple(targets.shape[1:])}: a prediction for every target is needed"
            )


def _values(targets: Tree) -> Tensor:
    assert isinstance(targets, Tensor)
    return targets
