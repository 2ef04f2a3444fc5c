"""The seam for allocations, and the exact choice of the largest scores."""

from __future__ import annotations

import math
from typing import Literal, Protocol

import torch
from torch import Tensor

from lth_runner.score import Scores
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

Rounding = Literal["nearest", "down", "up"]


class Allocate(Protocol):
    """Keeps the best-scored weights of a mask until a density is reached.

    ``density`` is the share of all prunable weights that stays, in the whole network; the result
    is nested in ``within``. Raises UserError for a density that cannot be had.
    """

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask: ...


def count(density: float, num: int, rounding: Rounding = "nearest") -> int:
    """Counts how many of ``num`` weights a density keeps, rounded to the nearest, halves up.

    Or ``down`` or ``up``, where what is whole but for the rounding of floats is taken for whole.
    """
    nearest = math.floor(density * num + 0.5)
    if rounding == "nearest" or math.isclose(density * num, nearest, rel_tol=1e-12, abs_tol=1e-9):
        return nearest
    return math.floor(density * num) if rounding == "down" else math.ceil(density * num)


def check_finite(scores: Tensor, within: Tensor) -> None:
    """Raises UserError for scores within a mask that are not finite."""
    if bool((within & ~torch.isfinite(scores)).any()):
        raise UserError(
            "scores are not finite (NaN or infinity): the training before has diverged, or the "
            "score is too large for a network so deep"
        )


def keep_top(scores: Tensor, within: Tensor, num_kept: int, seed: int) -> Tensor:
    """Masks exactly the ``num_kept`` largest scores inside ``within``; ties are drawn by seed.

    It selects by index and not by threshold: with a threshold, equal scores (a constant
    initialisation, say) all stay or all go. Raises UserError for scores that are not finite.
    """
    flat, inside = scores.reshape(-1), within.reshape(-1)
    num_inside = int(inside.sum())
    check_finite(flat, inside)
    if num_kept == 0:
        return torch.zeros_like(within)
    if num_kept > num_inside:
        raise ValueError(f"{num_kept} cannot be kept of {num_inside}")
    if num_kept == num_inside:
        return within.clone()
    if num_inside < len(flat):
        flat = flat.masked_fill(~inside, -math.inf)
    threshold = _kth_largest(flat, num_kept)
    kept = flat > threshold
    tied = torch.nonzero(flat == threshold).squeeze(1)
    missing = num_kept - int(kept.sum())
    if missing < len(tied):
        tied = tied[torch.randperm(len(tied), generator=stream(seed, "ties"))[:missing]]
    kept[tied] = True
    return kept.view_as(within)


SAMPLE_SIZE = 20_000


def _kth_largest(values: Tensor, k: int) -> Tensor:
    """Finds the k-th largest value exactly, by a sorted sample first where there are many.

    The sample tells between which two values it lies: two passes and a selection among few
    instead of one among all, which walks through memory (Floyd & Rivest, CACM 1975).
    """
    num = len(values)
    if num > 10 * SAMPLE_SIZE:
        sample = values[:: num // SAMPLE_SIZE].sort(descending=True).values
        place, margin = k * len(sample) / num, 4 * math.sqrt(len(sample))
        high = sample[max(0, math.floor(place - margin))]
        low = sample[min(len(sample) - 1, math.ceil(place + margin))]
        rank = k - int((values > high).sum())
        between = values[(values <= high) & (values >= low)]
        if 1 <= rank <= len(between):
            values, k = between, rank
    return torch.kthvalue(values, len(values) - k + 1).values


def empty_layers(mask: Mask) -> tuple[str, ...]:
    """Names the layers without a single weight, through which no signal passes."""
    return tuple(name for name, kept in mask.of_weights().items() if not bool(kept.any()))
