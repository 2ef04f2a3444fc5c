"""Allocations that fix each layer's density before they look at any score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import ClassVar

import torch

from lth_runner.allocate.budget import Budget, Counts, refuse_biases
from lth_runner.allocate.on_device import Choose
from lth_runner.score import Scores
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import value_for


@dataclass(frozen=True)
class Uniform:
    """Leaves the first layer dense and gives all others one density that meets the budget.

    "Uniform" of Evci et al., ICML 2020, arXiv 1911.11134, where the first layer comes on top of
    the budget; ``LayerWise`` is the one with no layer spared.
    """

    shards: ClassVar[bool] = True

    exclude: Sequence[str] = ()
    dense_first: bool = True
    avoid_collapse: bool = False

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask:
        budget, counts = self._counts(density, within)
        return budget.keep(counts, scores, within, seed)

    def on_device(self, density: float, within: Mask, seed: int, device: torch.device) -> Choose:
        budget, counts = self._counts(density, within)
        return budget.keep_on_device(counts, within, seed, device)

    def _counts(self, density: float, within: Mask) -> tuple[Budget, Counts]:
        budget = Budget.of(density, within, self.exclude, self._dense(within))
        sizes = {name: float(within[name].numel()) for name in budget.capacity}
        shares = budget.proportional(sizes)
        return budget, budget.whole_numbers(shares, avoid_collapse=self.avoid_collapse)

    def _dense(self, within: Mask) -> Sequence[str]:
        """Names the first weight and the bias that follows it."""
        first, *others = within
        return [first, *takewhile(within.biases.__contains__, others)] if self.dense_first else []


@dataclass(frozen=True)
class ErdosRenyi:
    """Gives each layer the density epsilon * (n_in + n_out) / (n_in * n_out), at most 1 (ER).

    With ``kernel`` (ERK) the kernel's extents count as well: sum of the weight's shape over their
    product. One epsilon makes the whole meet the budget; layers that it would fill beyond 1 are
    dense and epsilon is found anew for the rest (Mocanu et al., Nature Communications 2018,
    arXiv 1707.04780; Evci et al., ICML 2020, arXiv 1911.11134).
    """

    shards: ClassVar[bool] = True

    exclude: Sequence[str] = ()
    kernel: bool = True
    avoid_collapse: bool = False

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask:
        budget, counts = self._counts(density, within)
        return budget.keep(counts, scores, within, seed)

    def on_device(self, density: float, within: Mask, seed: int, device: torch.device) -> Choose:
        budget, counts = self._counts(density, within)
        return budget.keep_on_device(counts, within, seed, device)

    def _counts(self, density: float, within: Mask) -> tuple[Budget, Counts]:
        refuse_biases(within, "erk" if self.kernel else "er")
        budget = Budget.of(density, within, self.exclude)
        weights = {name: self._weights(within[name].shape) for name in budget.capacity}
        shares = budget.proportional(weights)
        return budget, budget.whole_numbers(shares, avoid_collapse=self.avoid_collapse)

    def _weights(self, shape: Sequence[int]) -> float:
        """Counts a layer's weights at epsilon = 1; its shape is (out, in, *kernel)."""
        return float(sum(shape) if self.kernel else sum(shape[:2]) * math.prod(shape[2:]))


@dataclass(frozen=True)
class Proportional:
    """Gives layers the densities of ``densities``, times one factor that meets the budget.

    ``densities: {conv*: 0.2, fc: 0.1}`` keeps exactly those where they add up to the budget; at
    another sparsity their proportions stay, and what a full layer cannot take goes to the others.
    Every layer must be matched (``'*'`` first gives the rest; the last match wins). Raises
    UserError for none, for one outside [0, 1] and for layers that are not matched.
    """

    shards: ClassVar[bool] = True

    densities: Mapping[str, float] | None = None
    exclude: Sequence[str] = ()
    avoid_collapse: bool = False

    def __post_init__(self) -> None:
        if not self.densities:
            raise UserError(
                "pruner.scope=given needs densities by layer: set for example "
                "'pruner.densities={*:0.05,output:0.5}'"
            )
        for pattern, density in self.densities.items():
            number = isinstance(density, (int, float)) and not isinstance(density, bool)
            if not number or not 0 <= density <= 1:
                raise UserError(f"pruner.densities: {pattern}={density} is outside [0, 1]")

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask:
        budget, counts = self._counts(density, within)
        return budget.keep(counts, scores, within, seed)

    def on_device(self, density: float, within: Mask, seed: int, device: torch.device) -> Choose:
        budget, counts = self._counts(density, within)
        return budget.keep_on_device(counts, within, seed, device)

    def _counts(self, density: float, within: Mask) -> tuple[Budget, Counts]:
        budget = Budget.of(density, within, self.exclude)
        given = value_for(self.densities or {}, within, "pruner.densities")
        if absent := [name for name in budget.capacity if name not in given]:
            raise UserError(
                f"pruner.densities says nothing of {', '.join(absent)}: name them, or begin with "
                "'*': 1.0 for all others"
            )
        weights = {name: given[name] * within[name].numel() for name in budget.capacity}
        shares = budget.proportional(weights)
        return budget, budget.whole_numbers(shares, avoid_collapse=self.avoid_collapse)
