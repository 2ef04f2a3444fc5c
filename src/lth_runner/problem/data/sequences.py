"""Texts of different lengths as tokens one after the other, padded when a batch is made."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lth_runner.problem.data.token_table import Table, fingerprint_of
from lth_runner.values import identity
from lth_runner.values.tree import Batch

MULTIPLE = 8  # of which the length of a batch is one: few shapes, and those that devices like


@dataclass(frozen=True, eq=False)
class Sequences:
    """One split of texts, each padded to the longest of its batch, rounded up to a multiple of 8.

    ``table`` holds ``tokens`` int32, of all texts one after the other, ``ends`` int64, where each
    ends, ``targets``, ``padding``, the number of that token, and maybe ``segments`` uint8, the
    ``token_type_ids``. No batch is longer than ``length``. Attention leaves padding out, so that
    another length answers the same, up to rounding.
    """

    table: Table
    length: int

    @cached_property
    def fingerprint(self) -> str:
        return identity.digest(["sequences", MULTIPLE, self.length, fingerprint_of(self.table)])

    @cached_property
    def lengths(self) -> Tensor:
        """How many tokens each text has, int64."""
        ends = self.table["ends"]
        return ends.diff(prepend=ends.new_zeros(1))

    @property
    def targets(self) -> Tensor:
        """The targets of all samples."""
        return self.table["targets"]

    def extremes(self) -> Tensor:
        """Numbers the longest text, and the one with the largest token number."""
        longest = self.lengths.argmax()
        place = self.table["tokens"].argmax()
        largest = torch.searchsorted(self.table["ends"], place, right=True)
        return torch.stack([longest, largest])

    def __len__(self) -> int:
        return len(self.table["ends"])

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        counts = self.lengths[index]
        longest = -(-int(counts.max()) // MULTIPLE) * MULTIPLE
        offsets = torch.arange(min(longest, self.length))
        inside = offsets < counts[:, None]
        places = (self.table["ends"][index] - counts)[:, None] + offsets
        places = torch.where(inside, places, 0)
        tokens = self.table["tokens"][places].long()
        inputs = {
            "input_ids": torch.where(inside, tokens, self.table["padding"]),
            "attention_mask": inside.long(),
        }
        if "segments" in self.table:
            segments = self.table["segments"][places].long()
            inputs["token_type_ids"] = torch.where(inside, segments, 0)
        return inputs, self.table["targets"][index]
