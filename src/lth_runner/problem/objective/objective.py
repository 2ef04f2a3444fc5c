"""The seam for objectives: what is to be learned, and how well it was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from lth_runner.values.errors import UserError
from lth_runner.values.measure import Measure
from lth_runner.values.tree import Tree


class Objective(Protocol):
    """Says what is learned, from a network's ``outputs`` and the ``targets`` of the same samples.

    Implement it as a frozen dataclass.
    """

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The figures on a split, the headline first.

        Verdicts, tolerance, axes and what a sweeper optimises go by the headline. A measure called
        ``loss`` is what ``Learning`` looks for the best step by.
        """

    def chance(self, num_classes: int | None) -> Mapping[str, float]:
        """Gives what a network that has learned nothing reaches, by the name of a measure."""

    def loss(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes the loss, a differentiable mean over as many terms as ``weight`` says.

        So parts of a batch add up to the whole, those of several devices too.
        """

    def weight(self, targets: Tree) -> float:
        """Counts the terms that the loss is the mean of."""

    def totals(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Sums over samples what the measures are made of: a one-dimensional float tensor.

        Those of several batches are added.
        """

    def values(self, totals: Tensor) -> dict[str, float]:
        """Makes each measure, by its name, of added totals."""

    def check(self, outputs: Any, targets: Tree, num_classes: int | None) -> None:
        """Raises UserError for outputs and targets that do not fit."""


@runtime_checkable
class Separable(Protocol):
    """An objective whose loss is a mean of as many terms for every sample.

    Trainings that are packed into one network are told apart by them.
    """

    def terms(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes all terms that the loss is the mean of, [samples, ...]."""

    def totals_by_sample(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes what each sample adds to the totals, float64 [totals, samples]."""


@runtime_checkable
class Averaging(Protocol):
    """An objective that says what several networks answer together.

    So the draws of a Bayesian network predict as one.
    """

    def averaged(self, outputs: Tensor) -> Tensor:
        """Averages the predictions of outputs [networks, ...] into outputs of one network."""


@runtime_checkable
class BySample(Protocol):
    """An objective that says what each sample adds to the headline measure.

    So verdicts can ask what other samples would have said. One whose headline is no mean over
    samples, nor a smooth function of means, leaves this out, and verdicts take the samples as
    fixed.
    """

    def sample_parts(self, outputs: Tensor, targets: Tree) -> Tensor:
        """Computes what the headline is made of, by sample: float64 [parts, samples]."""

    def sample_values(self, parts: Tensor, totals: Tensor) -> Tensor:
        """Makes of a whole split's parts and totals a value for each sample, [samples].

        Their mean is the headline, and they differ as it would by one sample more or less.
        """


@runtime_checkable
class OfTheWhole(BySample, Protocol):
    """An objective whose totals do not add up over batches: of ranks, of several samples at once.

    They are made of what ``sample_parts`` says of every sample of a split. Such an objective is not
    ``Separable``.
    """

    def whole_totals(self, parts: Tensor) -> Tensor:
        """Makes the totals of a whole split's parts, float64 [parts, samples], in its order."""


def smoothed(objective: Objective, amount: float) -> Objective:
    """Returns what training minimises with ``train.label_smoothing``: targets mixed with uniform.

    An objective that has labels has a method ``smoothed(amount)``. Raises UserError for others.
    """
    if not amount:
        return objective
    own: Any = objective
    if not hasattr(own, "smoothed"):
        raise UserError(
            f"train.label_smoothing={amount}: {type(objective).__name__} has no class labels to "
            "smooth: set it to 0"
        )
    found: Objective = own.smoothed(amount)
    return found


def check_is_tensor(outputs: Any) -> None:
    """Raises UserError for an answer that is no tensor."""
    if not isinstance(outputs, Tensor):
        raise UserError(
            f"the model answers with a {type(outputs).__name__}, not a tensor: return the tensor "
            "of predictions (logits) alone"
        )


def mean_of_classes(outputs: Tensor, axis: int) -> Tensor:
    """Computes log(mean over axis 0 of softmax(outputs)), the classes on another ``axis``."""
    return torch.logsumexp(outputs.log_softmax(axis), 0) - math.log(len(outputs))


def in_float64(values: Tensor) -> Tensor:
    """Widens values for sums, on the CPU where their device has no float64 (Apple's GPUs)."""
    return (values.cpu() if values.device.type == "mps" else values).double()


def sample_ratios(parts: Tensor) -> Tensor:
    """Computes for each sample what it adds to a ratio of sums, R = sum(a) / sum(b).

    ``parts`` are a and b, [2, samples]. v_j = R + (a_j - R b_j) / mean(b), whose mean is R; a_j / b
    where all b are equal. (The ratio estimator: Cochran, Sampling Techniques, 1977.)
    """
    above, below = parts
    if bool((below == below[0]).all()):
        return above / below
    ratio = above.sum() / below.sum()
    return ratio + (above - ratio * below) / below.mean()


def mean_loss(total: float, count: float) -> float:
    """Divides a summed loss by its number of terms, NaN for none."""
    return total / count if count else math.nan
