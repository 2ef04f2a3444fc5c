"""Exactly so many of the largest scores, and what every budget promises."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from lth_runner.errors import UserError
from lth_runner.mask import Mask
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
        raise UserError(
            "scores are not finite (NaN or infinity): the training before has diverged, or the "
            "score is too large for a network so deep"
        )
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


def collapsed(mask: Mask) -> tuple[str, ...]:
    """The layers without a single weight: through them no signal passes."""
    return tuple(name for name, kept in mask.items() if not bool(kept.any()))
