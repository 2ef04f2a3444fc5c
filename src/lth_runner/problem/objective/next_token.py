"""The objective of language modelling, of the next token or of masked ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_runner.problem.objective.cross_entropy import (
    check_class_numbers,
    check_several,
    zero_of_none,
)
from lth_runner.problem.objective.objective import (
    check_is_tensor,
    in_float64,
    mean_loss,
    mean_of_classes,
    sample_ratios,
)
from lth_runner.values.errors import UserError
from lth_runner.values.ignored import IGNORED
from lth_runner.values.measure import ACCURACY, LOSS, Measure
from lth_runner.values.tree import Tree, describe

LARGEST_EXPONENT = 700.0  # of e, in float64


@dataclass(frozen=True)
class NextToken:
    """Minimises the mean of -log softmax(outputs)[target] over tokens, vocabulary on the last axis.

    ``outputs`` are [samples, length, vocabulary] and ``targets`` [samples, length], int64; -100
    takes no part, so that masked language modelling is the same with all but the masked ones at
    -100. Measures: ``perplexity`` exp(loss), ``accuracy``, ``loss`` in nats a token.
    """

    label_smoothing: float = 0.0

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (
            Measure("perplexity", "lower"),
            ACCURACY,
            LOSS,
        )

    def chance(self, num_classes: int | None) -> Mapping[str, float]:
        """Holds all tokens for equally likely."""
        if not num_classes:
            return {}
        return {"perplexity": num_classes, "accuracy": 1 / num_classes}

    def loss(self, outputs: Tensor, targets: Tree) -> Tensor:
        flat, tokens = _flat(outputs, targets)
        mean = F.cross_entropy(flat, tokens, label_smoothing=self.label_smoothing)
        return zero_of_none(mean, tokens)

    def weight(self, targets: Tree) -> float:
        assert isinstance(targets, Tensor)
        return float((targets != IGNORED).sum())

    def totals(self, outputs: Tensor, targets: Tree) -> Tensor:
        flat, tokens = _flat(outputs, targets)
        right = (flat.argmax(1) == tokens).sum()
        summed = F.cross_entropy(flat, tokens, reduction="sum")
        return torch.stack([right, summed, (tokens != IGNORED).sum()])

    def averaged(self, outputs: Tensor) -> Tensor:
        """Takes the mean of the networks' probabilities of each token."""
        return mean_of_classes(outputs, -1)

    def sample_parts(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Sums each sequence's losses and counts its targets: tokens of one are not independent."""
        assert isinstance(targets, Tensor)
        losses = F.cross_entropy(*_flat(outputs, targets), reduction="none")
        parts = losses, targets.flatten() != IGNORED
        return torch.stack([in_float64(part).reshape(len(targets), -1).sum(1) for part in parts])

    def sample_values(self, parts: Tensor, totals: Tensor) -> Tensor:
        """Computes what each sequence adds to the perplexity exp(l): exp(l) (1 + its loss - l)."""
        losses = sample_ratios(parts)
        mean = losses.mean()
        return mean.clamp(max=LARGEST_EXPONENT).exp() * (1 + losses - mean)

    def values(self, totals: Tensor) -> dict[str, float]:
        right, summed, count = totals.tolist()
        loss = mean_loss(summed, count)
        perplexity = math.exp(min(loss, LARGEST_EXPONENT)) if math.isfinite(loss) else loss
        return {"perplexity": perplexity, "accuracy": mean_loss(right, count), "loss": loss}

    def smoothed(self, amount: float) -> NextToken:
        """Returns the same with uniform targets mixed in, for training alone."""
        return replace(self, label_smoothing=amount)

    def check(self, outputs: Any, targets: Tree, num_classes: int | None) -> None:
        """Raises UserError for answers that are not logits of a vocabulary at every token."""
        check_is_tensor(outputs)
        if not isinstance(targets, Tensor) or targets.dtype != torch.int64 or targets.ndim != 2:
            raise UserError(
                "objective=next_token needs token numbers [samples, length] (int64) as targets, "
                f"not {describe(targets)}: choose another objective or dataset"
            )
        if outputs.ndim != 3 or outputs.shape[:2] != targets.shape:
            raise UserError(
                f"the model answers with shape {tuple(outputs.shape[1:])} for one input, but "
                f"objective=next_token needs {(*targets.shape[1:], 'vocabulary')}: logits of every "
                "token"
            )
        if num_classes is not None and outputs.shape[2] != num_classes:
            raise UserError(
                f"the model answers with logits of {outputs.shape[2]} tokens, but the data's "
                f"vocabulary has {num_classes}: its last layer must have {num_classes} outputs"
            )
        check_several(outputs.shape[2], "tokens")
        check_class_numbers(targets, outputs.shape[2])


def _flat(outputs: Tensor, targets: Tree) -> tuple[Tensor, Tensor]:
    assert isinstance(targets, Tensor)
    return outputs.flatten(0, 1), targets.flatten()
