"""The objective of regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_runner.problem.objective.objective import check_is_tensor, mean_loss
from lth_runner.values.errors import UserError
from lth_runner.values.measure import Measure
from lth_runner.values.tree import Tree, describe


@dataclass(frozen=True)
class SquaredError:
    """Minimises the mean of (output - target)^2 over samples and places.

    Measures: ``r2``, 1 - the error over that of the mean of the split's own targets, so that a
    network that has learned nothing reaches 0; and ``loss``, the mean squared error.
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
        wanted = _values(targets).double()
        error = (outputs.double() - wanted).square().sum()
        count = wanted.new_tensor(wanted.numel())
        return torch.stack([error, wanted.sum(), wanted.square().sum(), count])

    def terms(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes the squared error of every place."""
        return F.mse_loss(outputs, _values(targets), reduction="none")

    def totals_by_sample(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes what each sample adds to ``totals``."""
        wanted = _values(targets).double()
        parts = (outputs.double() - wanted).square(), wanted, wanted.square(), wanted.new_ones(())
        flat = [part.expand_as(wanted).reshape(len(wanted), -1).sum(1) for part in parts]
        return torch.stack(flat)

    def values(self, totals: Tensor) -> dict[str, float]:
        error, first, second, count = totals.tolist()
        spread = second - first**2 / count if count else 0.0
        r2 = 1 - error / spread if spread > 0 else float("nan")  # equal targets: nothing to explain
        return {"r2": r2, "loss": mean_loss(error, count)}

    def check(self, outputs: Any, targets: Tree, num_classes: int | None) -> None:
        """Raises UserError for answers of another shape than the targets, and for class numbers."""
        check_is_tensor(outputs)
        if not isinstance(targets, Tensor) or not targets.is_floating_point():
            raise UserError(
                f"objective=regression needs floating-point targets, not {describe(targets)}: "
                "choose objective=classification for class numbers"
            )
        if outputs.shape != targets.shape:
            raise UserError(
                f"the model answers with shape {tuple(outputs.shape[1:])} for one input, but the "
                f"targets have {tuple(targets.shape[1:])}: a prediction for every target is needed"
            )


def _values(targets: Tree) -> Tensor:
    assert isinstance(targets, Tensor)
    return targets
