"""The seam for what is to be learned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from lth_runner.values.errors import UserError
from lth_runner.values.measure import Measure
from lth_runner.values.tree import Tree


class Objective(Protocol):
    """What is learned, from a network's ``outputs`` and the ``targets`` of the same samples.

    ``loss`` is a mean, differentiable, over as many terms as ``weight`` says: so parts of a batch
    add up to the whole, those of several devices too. ``totals`` are sums over samples in a
    one-dimensional float tensor: batches are added, and ``values`` makes the figures of the sum,
    one by the name of each of ``measures``. The first of these is the headline: verdicts,
    tolerance, axes and what a sweeper optimises go by it. A measure called ``loss`` is what
    ``Learning`` looks for the best step by. ``chance`` is what a network that has learned nothing
    reaches, by the name of a measure. Implement it as a frozen dataclass.
    """

    @property
    def measures(self) -> tuple[Measure, ...]: ...  # the headline first
    def chance(self, num_classes: int | None) -> Mapping[str, float]: ...  # of those that have one
    def loss(self, outputs: Tensor, targets: Tree) -> Tensor: ...
    def weight(self, targets: Tree) -> float: ...  # how many terms the loss is the mean of
    def totals(self, outputs: Tensor, targets: Tree) -> Tensor: ...
    def values(self, totals: Tensor) -> dict[str, float]: ...
    def check(self, outputs: Any, targets: Tree, num_classes: int | None) -> None: ...  # UserError


@runtime_checkable
class Separable(Protocol):
    """An objective whose loss is a mean of as many terms for every sample.

    Trainings that are packed into one network are told apart by them. ``terms`` are all that the
    loss is the mean of, [samples, ...]; ``totals_by_sample`` what each sample adds to the totals,
    float64 [totals, samples].
    """

    def terms(self, outputs: Tensor, targets: Tree) -> Tensor: ...
    def totals_by_sample(self, outputs: Tensor, targets: Tree) -> Tensor: ...


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


def mean_loss(total: float, count: float) -> float:
    """Divides a summed loss by its number of terms, NaN for none."""
    return total / count if count else math.nan
