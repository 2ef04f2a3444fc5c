"""Allocations by a threshold on the scores, one for all layers or one for each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from lth_runner.allocate.budget import Budget, Counts
from lth_runner.allocate.keep import Rounding, count, keep_top, keep_top_of_all
from lth_runner.allocate.on_device import Choose, Top, laid
from lth_runner.score import Scores
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import as_names, others, select, value_for


@dataclass(frozen=True)
class Global:
    """Keeps the largest scores of all layers together; ``exclude`` names layers that stay.

    The budget counts every prunable weight, the excluded ones too: the sparsity asked for is the
    sparsity of the whole network, and the other layers give what the excluded ones do not.
    ``avoid_collapse``: the best weight of every layer stays, whatever the others score.
    ``rounding`` of density times weights: nearest, down (as FORCE's authors' code) or up (as
    ProsPr's). Raises UserError for another rounding, and for one that leaves nothing.
    """

    shards: ClassVar[bool] = True

    exclude: Sequence[str] = ()
    avoid_collapse: bool = False
    rounding: Rounding = "nearest"

    def __post_init__(self) -> None:
        if self.rounding not in get_args(Rounding):
            value = str(self.rounding)
            raise UserError(
                f"pruner.budgets.global.rounding={value!r}: {nearest(value, get_args(Rounding))}"
            )

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask:
        budget = self._budget(density, within)
        names = list(budget.capacity)
        found, inside = [scores[name] for name in names], [within[name] for name in names]
        if self.avoid_collapse:
            best = [
                keep_top(scores[name], within[name], budget.least(name), seed + index)
                for index, name in enumerate(names)
            ]
            left = [part & ~one for part, one in zip(inside, best, strict=True)]
            num = budget.total - sum(int(one.sum()) for one in best)
            rest = keep_top_of_all(found, left, num, seed)
            kept = [one | part for one, part in zip(best, rest, strict=True)]
        else:
            kept = keep_top_of_all(found, inside, budget.total, seed)
        chosen = dict(zip(names, kept, strict=True))
        return Mask({name: chosen.get(name, within[name]) for name in within})

    def on_device(self, density: float, within: Mask, seed: int, device: torch.device) -> Choose:
        budget, left = self._budget(density, within), laid(within, device)
        names, num = list(budget.capacity), budget.total
        if self.avoid_collapse:
            least = [budget.least(name) for name in names]
            best = [Top(least[index], seed + index, device) for index in range(len(names))]
            num -= sum(least)
        rest = Top(num, seed, device)

        def choose(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
            found, inside = [scores[name] for name in names], [left[name] for name in names]
            if not self.avoid_collapse:
                kept = rest(found, inside)
            else:
                ones = [
                    top([score], [part])[0]
                    for top, score, part in zip(best, found, inside, strict=True)
                ]
                others = [part & ~one for part, one in zip(inside, ones, strict=True)]
                kept = [one | part for one, part in zip(ones, rest(found, others), strict=True)]
            return left | dict(zip(names, kept, strict=True))

        return choose

    def _budget(self, density: float, within: Mask) -> Budget:
        budget = Budget.of(density, within, self.exclude, rounding=self.rounding)
        if self.rounding == "down" and not budget.total + sum(budget.fixed.values()):
            raise UserError(
                f"density {density:.4g} of {within.num_prunable} weights is less than one, and "
                "pruner.budgets.global.rounding=down leaves none: lower pruner.sparsity"
            )
        if self.avoid_collapse:
            budget.check_none_empty()
        return budget


@dataclass(frozen=True)
class Deviation:
    """Cuts each layer at q standard deviations of its weights, with one q for all layers.

    Han et al., NeurIPS 2015 (arXiv 1506.02626), with magnitudes as scores: the deviation is the
    root mean square of what is left of a layer, and q follows from the budget, exactly.
    ``sensitivity`` multiplies q by layer pattern: 2 doubles a layer's threshold.
    """

    exclude: Sequence[str] = ()
    sensitivity: Mapping[str, float] | None = None
    avoid_collapse: bool = False

    def __post_init__(self) -> None:
        for pattern, factor in (self.sensitivity or {}).items():
            if isinstance(factor, bool) or not (factor > 0 and math.isfinite(factor)):
                raise UserError(f"pruner.sensitivity: {pattern}={factor} must be above 0")

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask:
        factors = value_for(self.sensitivity or {}, within, "pruner.sensitivity")
        units = {}
        for name, inside in within.items():
            left = scores[name][inside].double()
            spread = float(left.square().mean().sqrt()) if len(left) else 0.0
            # of a layer that is all zeros nothing is worth keeping
            units[name] = scores[name].double() / ((spread or 1.0) * factors.get(name, 1.0))
        return Global(self.exclude, self.avoid_collapse)(units, density, within, seed)

    def on_device(self, density: float, within: Mask, seed: int, device: torch.device) -> Choose:
        factors = value_for(self.sensitivity or {}, within, "pruner.sensitivity")
        places = {
            name: inside.reshape(-1).nonzero().squeeze(1).to(device)
            for name, inside in within.items()
        }
        best = Global(self.exclude, self.avoid_collapse).on_device(density, within, seed, device)

        def units(name: str, score: Tensor) -> Tensor:
            left = score.reshape(-1).index_select(0, places[name]).double()
            spread = left.square().mean().sqrt() if len(left) else left.sum()
            return score.double() / (torch.where(spread == 0, 1.0, spread) * factors.get(name, 1.0))

        return lambda scores: best({name: units(name, scores[name]) for name in places})


@dataclass(frozen=True)
class LayerWise:
    """Keeps the same share of every layer, or a share by layer where ``rates`` says so.

    A layer whose rate is r' where the others' is ``rate`` r keeps density^(ln(1-r') / ln(1-r)):
    after n rounds (1-r')^n of it beside (1-r)^n of the others. LeNet's output layer at half rate
    is ``rates: {output: 0.1}`` with ``rate: 0.2`` (Frankle & Carbin, ICLR 2019, arXiv 1803.03635);
    an excluded layer is one with rate 0. The whole keeps the rounded sum of the layers' shares:
    each is rounded down, those with the largest remainders up. With rates of their own that sum
    follows from them, and ``density`` is that of a layer with the common rate.
    ``avoid_collapse``: no share is less than a weight; the other layers give, in proportion.
    """

    shards: ClassVar[bool] = True

    exclude: Sequence[str] = ()
    rate: float | None = None
    rates: Mapping[str, float] | None = None
    avoid_collapse: bool = False

    def __post_init__(self) -> None:
        for pattern, rate in (self.rates or {}).items():
            if not 0 <= rate < 1:
                raise UserError(f"pruner.rates: {pattern}={rate} is outside [0, 1)")
        if self.rate is not None and not 0 < self.rate < 1:
            raise UserError(
                f"pruner.budgets.layerwise.rate={self.rate} is outside (0, 1): it is that of "
                "pruner.rate, which pruner.rates are relative to"
            )
        if self.rates and self.rate is None:
            raise UserError("pruner.rates are relative to pruner.rate: set it, to 0.2 for example")

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask:
        budget, counts = self._counts(density, within)
        return budget.keep(counts, scores, within, seed)

    def on_device(self, density: float, within: Mask, seed: int, device: torch.device) -> Choose:
        budget, counts = self._counts(density, within)
        return budget.keep_on_device(counts, within, seed, device)

    def _counts(self, density: float, within: Mask) -> tuple[Budget, Counts]:
        own = value_for(self.rates or {}, within, "pruner.rates")
        own |= dict.fromkeys(select(self.exclude, within, "pruner.exclude"), 0.0)
        left = {name: int(inside.sum()) for name, inside in within.items()}
        fixed = {name: num for name, num in left.items() if own.get(name) == 0}
        capacity = {name: num for name, num in left.items() if name not in fixed}
        if not capacity:
            others(self.exclude, within, "pruner.exclude")
            excluded = (
                f" with pruner.exclude={list(as_names(self.exclude))}" if self.exclude else ""
            )
            raise UserError(
                f"pruner.rates={dict(self.rates or {})}{excluded} leaves no layer to prune"
            )
        sizes = {name: within[name].numel() for name in capacity}
        alike = sum(size for name, size in sizes.items() if name not in own)
        shares = {
            name: density ** self._exponent(own[name]) * size if name in own else density * size
            for name, size in sizes.items()
        }
        # alike layers in one product, as other budgets have it: products' sum may miss a half
        total = density * alike + sum(share for name, share in shares.items() if name in own)
        budget = Budget(count(total, 1), capacity, fixed, within.biases)
        if self.avoid_collapse:
            budget.check_none_empty()
            shares = budget.none_below_least(shares)
        self._check(budget, shares, sizes)
        shares = {name: min(share, capacity[name]) for name, share in shares.items()}
        return budget, budget.whole_numbers(shares)

    def _exponent(self, rate: float) -> float:
        return math.log1p(-rate) / math.log1p(-float(self.rate or 0))

    def _check(self, budget: Budget, shares: Mapping[str, float], sizes: Mapping[str, int]) -> None:
        """Raises UserError where less is left of a layer than its share."""
        lacking = {name: share - budget.capacity[name] for name, share in shares.items()}
        name = max(lacking, key=lambda name: lacking[name], default="")
        # a share that was rounded down in the round before lacks less than a weight
        if name and (lacking[name] >= 1 or budget.total > sum(budget.capacity.values())):
            raise UserError(
                f"density {shares[name] / sizes[name]:.4g} of {name} cannot be had: only "
                f"{budget.capacity[name]} of its {sizes[name]} weights are left"
            )
