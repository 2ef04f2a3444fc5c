"""The seam for allocations, and the exact choice of the largest scores."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from lth_runner.allocate.on_shards import Parts
from lth_runner.score import Scores
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.shards import holders, is_shard, local, local_of, whole_from

Rounding = Literal["nearest", "down", "up"]


class Allocate(Protocol):
    """Keeps the best-scored weights of a mask until a density is reached.

    ``density`` is the share of all prunable weights that stays, in the whole network; the result
    is nested in ``within``. Raises UserError for a density that cannot be had. A class with
    ``shards = True`` looks at scores by ``keep_top`` and ``keep_top_of_all`` alone, so that
    they may lie on several processes, a part on each.
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
        raise _not_finite()


def _not_finite() -> UserError:
    return UserError(
        "scores are not finite (NaN or infinity): the training before has diverged, or the score "
        "is too large for a network so deep"
    )


def keep_top(scores: Tensor, within: Tensor, num_kept: int, seed: int) -> Tensor:
    """Masks exactly the ``num_kept`` largest scores inside ``within``; ties are drawn by seed.

    It selects by index and not by threshold: with a threshold, equal scores (a constant
    initialisation, say) all stay or all go. Raises UserError for scores that are not finite.
    """
    return keep_top_of_all([scores], [within], num_kept, seed)[0]


def keep_top_of_all(
    scores: Sequence[Tensor], within: Sequence[Tensor], num_kept: int, seed: int
) -> list[Tensor]:
    """Masks exactly the ``num_kept`` largest scores of several tensors together, as ``keep_top``.

    One tensor is looked at after the other: all of them side by side would be another copy of the
    weights. Scores that lie on several processes, a part on each, stay where they are: the masks
    are those of one process that has all.
    """
    shards = _shards(scores, within) if scores and all(map(is_shard, scores)) else None
    if shards is not None and not shards.are_finite():
        raise _not_finite()
    for score, inside in zip(scores, within, strict=True) if shards is None else ():
        check_finite(score, inside)
    num_inside = sum(int(inside.sum()) for inside in within)
    if num_kept == 0:
        return [torch.zeros_like(inside) for inside in within]
    if num_kept > num_inside:
        raise ValueError(f"{num_kept} cannot be kept of {num_inside}")
    if num_kept == num_inside:
        return [inside.clone() for inside in within]
    if shards is not None:
        own = shards.kept(num_kept, tie_generator(seed))
        return [whole_from(one, score).cpu() for one, score in zip(own, scores, strict=True)]
    pieces = _Pieces(scores, within)
    threshold = pieces.kth_largest(num_kept)
    kept = [piece > threshold for piece in pieces]
    _add_tied(kept, pieces, threshold, num_kept - sum(int(one.sum()) for one in kept), seed)
    return [one.view_as(inside) for one, inside in zip(kept, within, strict=True)]


def _shards(scores: Sequence[Tensor], within: Sequence[Tensor]) -> Parts:
    own = [local(score) for score in scores]
    inside = [
        local_of(one, score).to(part.device)
        for one, score, part in zip(within, scores, own, strict=True)
    ]
    return Parts(own, inside, holders(scores[0]))


def _add_tied(
    kept: Sequence[Tensor], pieces: Iterable[Tensor], threshold: Tensor, missing: int, seed: int
) -> None:
    """Adds ``missing`` of the scores that equal the smallest that stays, drawn by seed."""
    tied = [torch.nonzero(piece == threshold).squeeze(1) for piece in pieces]
    num_tied = sum(map(len, tied))
    if missing < num_tied:
        drawn = torch.randperm(num_tied, generator=tie_generator(seed))[:missing]
        is_drawn = torch.zeros(num_tied, dtype=torch.bool).index_fill_(0, drawn, value=True)
        parts = is_drawn.split([len(places) for places in tied])
        tied = [places[part] for places, part in zip(tied, parts, strict=True)]
    for one, places in zip(kept, tied, strict=True):
        one[places] = True


def tie_generator(seed: int) -> torch.Generator:
    """Makes the generator that draws which of equal scores stay."""
    return stream(seed, "ties")


SAMPLE_SIZE = 20_000


@dataclass(frozen=True)
class _Pieces:
    """Scores of several tensors, flat, one after the other; those outside a mask are -infinity."""

    scores: Sequence[Tensor]
    within: Sequence[Tensor]

    def __iter__(self) -> Iterator[Tensor]:
        kind = functools.reduce(torch.promote_types, (score.dtype for score in self.scores))
        for score, inside in zip(self.scores, self.within, strict=True):
            flat = score.reshape(-1).to(kind)
            outside = ~inside.reshape(-1)
            yield flat.masked_fill(outside, -math.inf) if bool(outside.any()) else flat

    def kth_largest(self, k: int) -> Tensor:
        """Finds the k-th largest value exactly, by a sorted sample first where there are many.

        The sample tells between which two values it lies: two passes and a selection among few
        instead of one among all, which walks through memory (Floyd & Rivest, CACM 1975).
        """
        num = sum(score.numel() for score in self.scores)
        if num > 10 * SAMPLE_SIZE:
            every = num // SAMPLE_SIZE
            sample = torch.cat([piece[::every] for piece in self]).sort(descending=True).values
            place, margin = k * len(sample) / num, 4 * math.sqrt(len(sample))
            high = sample[max(0, math.floor(place - margin))]
            low = sample[min(len(sample) - 1, math.ceil(place + margin))]
            rank, found = k, []
            for piece in self:
                rank -= int((piece > high).sum())
                found.append(piece[(piece <= high) & (piece >= low)])
            between = torch.cat(found)
            if 1 <= rank <= len(between):
                return _kth(between, rank)
        return _kth(torch.cat(list(self)), k)


def _kth(values: Tensor, k: int) -> Tensor:
    return torch.kthvalue(values, len(values) - k + 1).values


def empty_layers(mask: Mask) -> tuple[str, ...]:
    """Names the layers without a single weight, through which no signal passes."""
    return tuple(name for name, kept in mask.of_weights().items() if not bool(kept.any()))
