"""The choice of the largest scores of which every process holds a part, exact and not gathered.

What is sent are counts. Numbers of a kind are ordered as the integers of their bits, but for the
sign; the k-th largest is found digit by digit of these, from the highest: all processes count how
many of their scores have each value of a digit, and the sums of the counts say in which the k-th
lies. Three sums of up to 2,048 counts for float32, and one by which ties are found.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.values.shards import Holders

# by the type of the scores: integers of as many bits, and the bits of each digit
KINDS = {
    torch.float32: (torch.int32, (11, 11, 10)),
    torch.float64: (torch.int64, (16, 16, 16, 16)),
}


@dataclass(frozen=True)
class Parts:
    """This process's parts of the scores of several tensors, beside what of them is looked at.

    A part is a run of its tensor's values, row by row, and the processes' runs follow each other.
    """

    scores: Sequence[Tensor]
    within: Sequence[Tensor]
    holders: Holders

    @functools.cached_property
    def kind(self) -> torch.dtype:
        """The type in which scores are compared."""
        found = functools.reduce(torch.promote_types, (score.dtype for score in self.scores))
        return torch.promote_types(found, torch.float32)

    @property
    def device(self) -> torch.device:
        return self.scores[0].device

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Gives for each tensor the integers that order its scores, and which are within; flat."""
        integers, digits = KINDS[self.kind]
        for score, inside in zip(self.scores, self.within, strict=True):
            bits = (score.to(self.kind) + 0.0).view(integers)  # -0.0 equals 0.0
            # of what is negative all bits but the sign are turned round
            keys = bits ^ ((bits >> (sum(digits) - 1)) & torch.iinfo(integers).max)
            yield keys.flatten(), inside.flatten()

    def are_finite(self) -> bool:
        """Whether all scores within are, of all processes."""
        num = sum(
            int((inside & ~score.isfinite()).sum())
            for score, inside in zip(self.scores, self.within, strict=True)
        )
        return not int(self.holders.summed(torch.tensor(num, device=self.device)))

    def kept(self, num_kept: int, generator: torch.Generator) -> list[Tensor]:
        """Marks this process's among the ``num_kept`` largest scores; ties are drawn.

        ``num_kept``: at least 1 and fewer than there are within.
        """
        threshold, missing = self.kth_largest(num_kept)
        kept, tied = [], []
        for key, inside in self._pairs():
            kept.append((key > threshold) & inside)
            tied.append(torch.nonzero((key == threshold) & inside).squeeze(1))
        for one, places in zip(kept, self._drawn(tied, missing, generator), strict=True):
            one[places] = True
        return [one.view(score.shape) for one, score in zip(kept, self.scores, strict=True)]

    def kth_largest(self, k: int) -> tuple[int, int]:
        """Finds the key of the k-th largest score, and how many that equal it are among the k."""
        found, digits = 0, KINDS[self.kind][1]
        shift = sum(digits)
        for number, width in enumerate(digits):
            shift -= width
            # the first digit has the sign: from -2^(width - 1) on
            least = 0 if number else -(2 ** (width - 1))
            counts = torch.zeros(2**width, dtype=torch.int64, device=self.device)
            for key, inside in self._pairs():
                fits = inside & (key >> (shift + width) == found) if number else inside
                digit = (key[fits] >> shift) - (found << width) - least
                counts += torch.bincount(digit, minlength=2**width)
            above = self.holders.summed(counts).flip(0).cumsum(0)  # the largest digit first
            place = int(torch.searchsorted(above, k))
            k -= int(above[place - 1]) if place else 0
            found = (found << width) + least + 2**width - 1 - place
        return found, k

    def _drawn(
        self, tied: Sequence[Tensor], missing: int, generator: torch.Generator
    ) -> Sequence[Tensor]:
        """Draws ``missing`` among the tied scores of all processes, as one that had all would."""
        counts = torch.zeros(len(tied), self.holders.num, dtype=torch.int64, device=self.device)
        counts[:, self.holders.number] = torch.tensor([len(places) for places in tied])
        counts = self.holders.summed(counts).cpu()
        num_tied = int(counts.sum())
        if missing == num_tied:
            return tied
        before = (counts.flatten().cumsum(0).view_as(counts) - counts)[:, self.holders.number]
        is_drawn = torch.zeros(num_tied, dtype=torch.bool)
        is_drawn[torch.randperm(num_tied, generator=generator)[:missing]] = True
        return [
            places[is_drawn[begin : begin + len(places)].to(places.device)]
            for begin, places in zip(before.tolist(), tied, strict=True)
        ]
