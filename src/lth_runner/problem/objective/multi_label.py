"""The objective of several labels at once, each there or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_runner.problem.objective.objective import (
    check_is_tensor,
    in_float64,
    mean_loss,
    sample_ratios,
)
from lth_runner.values.errors import UserError
from lth_runner.values.measure import ACCURACY, LOSS, Measure
from lth_runner.values.tree import Tree, describe


@dataclass(frozen=True)
class MultiLabel:
    """Minimises the mean binary cross-entropy of sigmoid(outputs), a label on each place.

    ``targets`` are 0 or 1 in floating point, in the shape of ``outputs``. Measures: ``f1``, micro:
    2 TP / (2 TP + FP + FN) at outputs above 0, which is a probability of one half; ``accuracy``,
    the share of labels that are right; ``loss`` in nats a label.
    """

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (
            Measure("f1", unit="%", scale=100),
            ACCURACY,
            LOSS,
        )

    def chance(self, num_classes: int | None) -> Mapping[str, float]:
        """Leaves out what depends on how frequent each label is."""
        return {}

    def loss(self, outputs: Tensor, targets: Tree) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, _labels(targets))

    def weight(self, targets: Tree) -> float:
        return float(_labels(targets).numel())

    def totals(self, outputs: Tensor, targets: Tree) -> Tensor:
        labels = _labels(targets)
        predicted, true = outputs > 0, labels > 0.5
        hits = (predicted & true).sum()
        summed = F.binary_cross_entropy_with_logits(outputs, labels, reduction="sum")
        count = labels.new_tensor(labels.numel())
        right = (predicted == true).sum()
        return torch.stack([hits, predicted.sum(), true.sum(), right, summed, count])

    def averaged(self, outputs: Tensor) -> Tensor:
        """Takes the mean of the networks' probabilities of each label, as its log odds."""
        yes, no = (torch.logsumexp(F.logsigmoid(signed), 0) for signed in (outputs, -outputs))
        return yes - no

    def terms(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes the loss of every label by itself."""
        return F.binary_cross_entropy_with_logits(outputs, _labels(targets), reduction="none")

    def totals_by_sample(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes what each sample adds to ``totals``."""
        labels = _labels(targets)
        predicted, true = outputs > 0, labels > 0.5
        losses = F.binary_cross_entropy_with_logits(outputs, labels, reduction="none")
        hits, right = predicted & true, predicted == true
        parts = hits, predicted, true, right, losses, torch.ones_like(labels)
        return torch.stack([in_float64(part).reshape(len(labels), -1).sum(1) for part in parts])

    def sample_parts(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Counts each sample's 2 TP and its 2 TP + FP + FN."""
        hits, predicted, true = self.totals_by_sample(outputs, targets)[:3]
        return torch.stack([2 * hits, predicted + true])

    def sample_values(self, parts: Tensor, totals: Tensor) -> Tensor:
        """Computes what each sample adds to F1."""
        return sample_ratios(parts) if bool(parts[1].any()) else torch.ones_like(parts[1])

    def values(self, totals: Tensor) -> dict[str, float]:
        hits, predicted, true, right, summed, count = totals.tolist()
        # no label, and none predicted: nothing was missed
        f1 = 2 * hits / (predicted + true) if predicted + true else 1.0
        return {
            "f1": f1, "accuracy": mean_loss(right, count), "loss": mean_loss(summed, count),
        }  # fmt: skip

    def check(self, outputs: Any, targets: Tree, num_classes: int | None) -> None:
        """Raises UserError for targets that are not 0 or 1 in the shape of the answer."""
        check_is_tensor(outputs)
        if not isinstance(targets, Tensor) or not targets.is_floating_point():
            raise UserError(
                f"objective=multi_label needs targets of 0.0 and 1.0, not {describe(targets)}: "
                "choose objective=classification for class numbers"
            )
        if not bool(((targets == 0) | (targets == 1)).all()):
            raise UserError(
                "objective=multi_label needs targets of 0.0 and 1.0, and these have other values: "
                "choose objective=regression for numbers"
            )
        if outputs.shape != targets.shape:
            raise UserError(
                f"the model answers with shape {tuple(outputs.shape[1:])} for one input, but the "
                f"targets have {tuple(targets.shape[1:])}: a logit for every label is needed"
            )


def _labels(targets: Tree) -> Tensor:
    assert isinstance(targets, Tensor)
    return targets
