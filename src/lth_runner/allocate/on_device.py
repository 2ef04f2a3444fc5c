"""The choice of the largest scores where they lie, by a device that is asked nothing."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lth_runner.allocate.keep import Allocate, tie_generator
from lth_runner.values.mask import Mask

NUM_TIED = 64  # equal scores of which the same ones stay as on a CPU
PRIME = 2**31 - 1  # its multiples reach every rank among fewer equal scores

# scores -> what is kept, on their device
Choose = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


def prepared(
    allocate: Allocate, density: float, within: Mask, seed: int, device: torch.device
) -> Choose:
    """Prepares an allocation for scores on a device.

    By its ``on_device``, which settles counts, draws and what is left, so that the device is then
    asked nothing: the masks are the allocation's own, but scores that are not finite are not
    refused. On a CPU it is the allocation itself, and where it has no ``on_device`` it is asked
    ``on_host``. Raises UserError for a density that cannot be had.
    """
    own: Any = getattr(allocate, "on_device", None)
    if device.type == "cpu" or own is None:
        return on_host(allocate, density, within, seed, device)
    found: Choose = own(density, within, seed, device)
    return found


def on_host(
    allocate: Allocate, density: float, within: Mask, seed: int, device: torch.device
) -> Choose:
    """Asks an allocation on the CPU, which waits for the device that the scores lie on.

    There scores that are not finite, which are for the caller to see, count as numbers.
    """
    if device.type == "cpu":
        return lambda scores: allocate(dict(scores), density, within, seed)

    def waits(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
        near = {name: score.detach().cpu().nan_to_num() for name, score in scores.items()}
        return laid(allocate(near, density, within, seed), device)

    return waits


def laid(within: Mask, device: torch.device) -> dict[str, Tensor]:
    """Lays a mask out on a device."""
    return {name: kept.to(device) for name, kept in within.items()}


class Top:
    """``keep_top_of_all`` for a fixed number, on a device that is asked nothing.

    Of up to 64 equal scores at the threshold the same ones stay as there. Of more, how many they
    are being known to the device alone, as many stay, by the seed too, but others.
    """

    def __init__(self, num_kept: int, seed: int, device: torch.device) -> None:
        self._num_kept, self._shift = num_kept, seed % PRIME
        self._places = _places(seed).to(device).view(-1)

    def __call__(self, scores: Sequence[Tensor], within: Sequence[Tensor]) -> list[Tensor]:
        if self._num_kept == 0:
            return [torch.zeros_like(inside) for inside in within]
        kind = functools.reduce(torch.promote_types, (score.dtype for score in scores))
        flat = torch.cat(
            [
                score.reshape(-1).to(kind).masked_fill(~inside.reshape(-1), -math.inf)
                for score, inside in zip(scores, within, strict=True)
            ]
        )
        threshold = self._threshold(flat)
        kept, tied = flat > threshold, flat == threshold
        kept |= tied & (self._lots(tied) < self._num_kept - kept.sum())
        parts = kept.split([inside.numel() for inside in within])
        return [part.view(inside.shape) for part, inside in zip(parts, within, strict=True)]

    def _threshold(self, flat: Tensor) -> Tensor:
        """Finds the smallest score that stays; kthvalue has no repeatable kernel on CUDA."""
        above, below = self._num_kept, len(flat) - self._num_kept + 1
        if above <= below:
            return flat.topk(above, sorted=False).values.amin()
        return flat.topk(below, largest=False, sorted=False).values.amax()

    def _lots(self, tied: Tensor) -> Tensor:
        """Gives each tied score its place among them in the order in which they are drawn."""
        ranks, num = tied.cumsum(0) - 1, tied.sum()
        row = num.clamp(max=NUM_TIED) * NUM_TIED
        few = self._places.index_select(0, row + ranks.clamp(min=0, max=NUM_TIED - 1))
        many = (PRIME * ranks + self._shift) % num.clamp(min=1)
        return torch.where(num <= NUM_TIED, few, many)


def _places(seed: int) -> Tensor:
    """Tabulates at which place each of n tied scores is drawn, a row by n, from 0 to NUM_TIED."""
    table = torch.zeros(NUM_TIED + 1, NUM_TIED, dtype=torch.int64)
    generator = tie_generator(seed)
    for num in range(2, NUM_TIED + 1):
        drawn = torch.randperm(num, generator=generator.manual_seed(generator.initial_seed()))
        table[num, drawn] = torch.arange(num)
    return table
