"""The objective of classification, of images, sentences or pixels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lth_runner.problem.objective.confusion import class_counts, f1, linearised, matthews
from lth_runner.problem.objective.objective import (
    check_is_tensor,
    in_float64,
    mean_loss,
    mean_of_classes,
    sample_ratios,
)
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.ignored import IGNORED
from lth_runner.values.measure import ACCURACY, LOSS, Measure
from lth_runner.values.tree import Tree, describe

PLAIN = 3  # totals that every classification has: right ones, the loss, how many there are
HEADLINES = {
    "accuracy": (ACCURACY, LOSS),
    "f1": (Measure("f1", unit="%", scale=100), ACCURACY, LOSS),
    "matthews": (Measure("matthews"), ACCURACY, LOSS),
}


@dataclass(frozen=True)
class CrossEntropy:
    """Minimises the mean of -log softmax(outputs)[target], the classes on axis 1.

    ``outputs`` are [samples, classes, ...] and ``targets`` [samples, ...], int64 class numbers, or
    -100 where a place (a pixel) takes no part. Measures: ``accuracy``, the share of places whose
    largest output is the target's, and ``loss`` in nats. A ``headline`` other than accuracy comes
    before them: ``matthews``, the correlation of answers and targets, or ``f1``, of class 1 where
    there are two, else the mean over classes. Raises UserError for another.
    """

    label_smoothing: float = 0.0
    headline: Literal["accuracy", "f1", "matthews"] = "accuracy"

    def __post_init__(self) -> None:
        if self.headline not in HEADLINES:
            raise UserError(f"objective.headline: {nearest(str(self.headline), HEADLINES)}")

    @property
    def measures(self) -> tuple[Measure, ...]:
        return HEADLINES[self.headline]

    def chance(self, num_classes: int | None) -> Mapping[str, float]:
        """Guesses one of the classes, whatever the sample."""
        known = {"accuracy": 1 / num_classes} if num_classes else {}
        return {"matthews": 0.0, **known} if self.headline == "matthews" else known

    def loss(self, outputs: Tensor, targets: Tree) -> Tensor:
        labels = _labels(targets)
        mean = F.cross_entropy(outputs, labels, label_smoothing=self.label_smoothing)
        # a batch of images, none of them with a label, is not worth a look in every step
        return mean if labels.ndim == 1 else zero_of_none(mean, labels)

    def weight(self, targets: Tree) -> float:
        return float((_labels(targets) != IGNORED).sum())

    def totals(self, outputs: Tensor, targets: Tree) -> Tensor:
        labels = _labels(targets)
        right = (outputs.argmax(1) == labels).sum()
        summed = F.cross_entropy(outputs, labels, reduction="sum")
        plain = torch.stack([right, summed, (labels != IGNORED).sum()])
        if self.headline == "accuracy":
            return plain
        return torch.cat([in_float64(plain), in_float64(class_counts(outputs, labels)).sum(1)])

    def terms(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes the loss of every place by itself."""
        return F.cross_entropy(
            outputs, _labels(targets), reduction="none", label_smoothing=self.label_smoothing
        )

    def totals_by_sample(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes what each sample adds to ``totals``."""
        labels = _labels(targets)
        losses = F.cross_entropy(outputs, labels, reduction="none")
        parts = outputs.argmax(1) == labels, losses, labels != IGNORED
        plain = [in_float64(part).reshape(len(labels), -1).sum(1) for part in parts]
        if self.headline == "accuracy":
            return torch.stack(plain)
        return torch.cat([torch.stack(plain), in_float64(class_counts(outputs, labels))])

    def averaged(self, outputs: Tensor) -> Tensor:
        """Takes the mean of the networks' probabilities; its logarithm are logits of it."""
        return mean_of_classes(outputs, 2)

    def sample_parts(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Counts the places of each sample that are right, and those that there are.

        Of another headline, true positives, predictions and labels of every class.
        """
        by_sample = self.totals_by_sample(outputs, targets)
        return by_sample[[0, 2]] if self.headline == "accuracy" else by_sample[PLAIN:]

    def sample_values(self, parts: Tensor, totals: Tensor) -> Tensor:
        """Computes what each sample adds to the headline: of an accuracy of one place, 0 or 1."""
        if self.headline == "accuracy":
            return sample_ratios(parts)
        return linearised(parts, f1 if self.headline == "f1" else matthews)

    def values(self, totals: Tensor) -> dict[str, float]:
        right, summed, count = totals[:PLAIN].tolist()
        plain = {"accuracy": mean_loss(right, count), "loss": mean_loss(summed, count)}
        if self.headline == "accuracy":
            return plain
        measure = f1 if self.headline == "f1" else matthews
        return {self.headline: float(measure(totals[PLAIN:])), **plain}

    def smoothed(self, amount: float) -> CrossEntropy:
        """Returns the same with uniform targets mixed in, for training alone."""
        return replace(self, label_smoothing=amount)

    def check(self, outputs: Any, targets: Tree, num_classes: int | None) -> None:
        """Raises UserError for outputs and targets that are not of one classification."""
        check_is_tensor(outputs)
        if not isinstance(targets, Tensor) or targets.dtype != torch.int64:
            raise UserError(
                f"objective=classification needs class numbers (int64) as targets, not "
                f"{describe(targets)}: choose another objective (regression, "
                "multi_label, tagging), or another dataset"
            )
        if num_classes is None:
            raise UserError(
                "objective=classification needs dataset.num_classes, which this dataset lacks: "
                "choose objective=regression, or give the number of classes"
            )
        check_several(num_classes, "classes")
        if outputs.shape != (len(targets), num_classes, *targets.shape[1:]):
            found, wanted = tuple(outputs.shape[1:]), (num_classes, *targets.shape[1:])
            layer = f"its last layer must have {num_classes} outputs"
            whole = f"its answer must have the shape {wanted}, for targets of {wanted[1:]}"
            if found == (*wanted[1:], num_classes):  # classes last, as language models answer
                whole += " (objective=next_token, or masked_token, takes classes on the last axis)"
            if found[1:] == wanted and len(found) == 2:
                whole += " (model.task=token_classification and question_answering answer at each"
                whole += " token: take sequence_classification)"
            raise UserError(
                f"the model answers with shape {found} for one input, but the data have "
                f"{num_classes} classes: {layer if found[1:] == wanted[1:] else whole}"
            )
        check_class_numbers(targets, num_classes)


def zero_of_none(mean: Tensor, targets: Tensor) -> Tensor:
    """Takes a mean over no counted target for 0, not for NaN: the step has nothing to learn."""
    return torch.where((targets != IGNORED).any(), mean, torch.zeros_like(mean))


def check_several(num: int, what: str) -> None:
    """Raises UserError where there is one class, or token, so that every answer is right."""
    if num < 2:
        raise UserError(
            f"num_classes={num}: with fewer than two {what} there is nothing to learn, and every "
            "answer is right: give data with more (dataset.num_classes is to say how many)"
        )


def check_class_numbers(targets: Tensor, num_classes: int) -> None:
    """Raises UserError where a number is none of the classes, or tokens, that there are."""
    counted = targets[targets != IGNORED]
    low, high = (int(v) for v in counted.aminmax()) if counted.numel() else (0, 0)
    if low < 0 or high >= num_classes:
        raise UserError(
            f"the targets are numbers from {low} to {high}: accepted 0 to {num_classes - 1} "
            f"(num_classes={num_classes}), and {IGNORED} for what takes no part"
        )


def _labels(targets: Tree) -> Tensor:
    assert isinstance(targets, Tensor)
    return targets
