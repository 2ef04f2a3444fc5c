"""Given scores and a budget, which weights stay: exact counts, ties broken by seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lth_runner.errors import UserError
from lth_runner.mask import Mask
from lth_runner.patterns import select, value_for
from lth_runner.score import Scores
from lth_runner.seeds import stream


class Allocate(Protocol):
    """Keeps the best-scored weights of ``within`` to ``density`` (share of all prunable weights).

    The result is nested in ``within``. Raises UserError for a density that cannot be had.
    """

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask: ...


def count(density: float, num: int) -> int:
    """How many of ``num`` weights a density keeps: rounded to the nearest, halves up."""
    return math.floor(density * num + 0.5)


def keep_top(scores: Tensor, within: Tensor, num_kept: int, seed: int) -> Tensor:
    """The ``num_kept`` largest scores inside ``within``, exactly; equal scores drawn by seed.

    Selecting by index and not by threshold: with a threshold, equal scores (a constant
    initialisation, say) all stay or all go.
    """
    flat, inside = scores.reshape(-1), within.reshape(-1)
    candidates = flat[inside]
    if not bool(torch.isfinite(candidates).all()):
        raise UserError("scores are not finite (NaN or infinity): the training before has diverged")
    kept = torch.zeros_like(inside)
    if num_kept == 0:
        return kept.view_as(within)
    if num_kept == len(candidates):
        return within.clone()
    threshold = torch.kthvalue(candidates, len(candidates) - num_kept + 1).values
    kept = inside & (flat > threshold)
    tied = torch.nonzero(inside & (flat == threshold)).squeeze(1)
    missing = num_kept - int(kept.sum())
    if missing < len(tied):
        tied = tied[torch.randperm(len(tied), generator=stream(seed, "ties"))[:missing]]
    kept[tied] = True
    return kept.view_as(within)


@dataclass(frozen=True)
class Global:
    """One threshold over all prunable weights; ``exclude`` names layers that stay as they are.

    The budget counts every prunable weight, the excluded ones too: the sparsity asked for is the
    sparsity of the whole network, and the other layers give what the excluded ones do not.
    """

    exclude: Sequence[str] = ()

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask:
        spared = select(self.exclude, within, "pruner.exclude")
        names = [name for name in within if name not in spared]
        fixed = sum(int(within[name].sum()) for name in spared)
        num_kept = count(density, within.num_prunable) - fixed
        available = within.num_kept - fixed
        if not names:
            raise UserError(f"pruner.exclude={list(self.exclude)} leaves no layer to prune")
        if not 0 <= num_kept <= available:
            raise UserError(
                f"density {density:.4g} cannot be had: {fixed} weights are in excluded layers and "
                f"{available} others are left of {within.num_prunable}"
            )
        flat = torch.cat([scores[name].reshape(-1) for name in names])
        inside = torch.cat([within[name].reshape(-1) for name in names])
        kept = keep_top(flat, inside, num_kept, seed)
        parts = kept.split([within[name].numel() for name in names])
        chosen = {n: part.view_as(within[n]) for n, part in zip(names, parts, strict=True)}
        return Mask({name: chosen.get(name, within[name]) for name in within})


@dataclass(frozen=True)
class LayerWise:
    """The same share of every layer, or a share by layer where ``rates`` says so.

    A layer whose rate is r' where the others' is ``rate`` r keeps density^(ln(1-r') / ln(1-r)):
    after n rounds (1-r')^n of it beside (1-r)^n of the others. LeNet's output layer at half rate
    is ``rates: {output: 0.1}`` with ``rate: 0.2`` (Frankle & Carbin, ICLR 2019, arXiv 1803.03635);
    an excluded layer is one with rate 0. With rates of their own the layers' sum follows from
    them, and ``density`` is that of a layer with the common rate.
    """

    exclude: Sequence[str] = ()
    rate: float | None = None
    rates: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        for pattern, rate in (self.rates or {}).items():
            if not 0 <= rate < 1:
                raise UserError(f"pruner.rates: {pattern}={rate} is outside [0, 1)")
        if self.rates and self.rate is None:
            raise UserError("pruner.rates are relative to pruner.rate: set it, to 0.2 for example")

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask:
        own = value_for(self.rates or {}, within, "pruner.rates")
        own |= dict.fromkeys(select(self.exclude, within, "pruner.exclude"), 0.0)
        kept = {}
        for index, (name, inside) in enumerate(within.items()):
            share = density
            if name in own:
                share = density ** self._exponent(own[name])
            num_kept = count(share, inside.numel())
            if num_kept > int(inside.sum()):
                raise UserError(
                    f"density {share:.4g} of {name} cannot be had: only "
                    f"{int(inside.sum())} of its {inside.numel()} weights are left"
                )
            kept[name] = keep_top(scores[name], inside, num_kept, seed + index)
        return Mask(kept)

    def _exponent(self, rate: float) -> float:
        return 0.0 if rate == 0 else math.log1p(-rate) / math.log1p(-float(self.rate or 0))
