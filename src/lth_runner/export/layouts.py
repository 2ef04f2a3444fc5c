"""Sparse tensors as plain ones that a file can hold, and back, to the last bit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lth_runner.values.state import State, row_major

GROUP, KEPT = 4, 2  # 2:4
NARROW = 2**15  # columns that 16 bits count


def to_csr(weight: Tensor, kept: Tensor) -> State:
    """Packs the kept weights row by row: (out, ...) is a matrix of out rows.

    ``crow`` counts the weights before each row (int32), ``col`` has their places in it (16 bits
    where that is enough), ``values`` are in the weights' own type. A kept weight may be zero.
    """
    rows = kept.flatten(1)
    crow = torch.zeros(len(rows) + 1, dtype=torch.int32)
    crow[1:] = rows.sum(1).cumsum(0)
    col = rows.nonzero()[:, 1]
    col = col.to(torch.int16 if rows.shape[1] <= NARROW else torch.int32)
    return {"crow": crow, "col": col, "values": _chosen(weight, kept)}


def as_csr(packed: State, shape: tuple[int, ...]) -> Tensor:
    """Makes torch's own sparse matrix of what ``to_csr`` packed, of out rows."""
    columns = int(np.prod(shape[1:]))
    crow, col = packed["crow"].to(torch.int32), packed["col"].to(torch.int32)
    size = (shape[0], columns)
    return torch.sparse_csr_tensor(crow, col, packed["values"], size=size, check_invariants=True)


def from_csr(packed: State, shape: tuple[int, ...]) -> Tensor:
    """Lays out what ``to_csr`` packed as the dense tensor."""
    columns = int(np.prod(shape[1:]))
    counts = packed["crow"].diff().long()
    row = torch.repeat_interleave(torch.arange(shape[0]), counts)
    found = packed["values"].new_zeros(shape[0], columns)
    found[row, packed["col"].long()] = packed["values"]
    return found.reshape(shape)


def to_bitmask(weight: Tensor, kept: Tensor) -> State:
    """Packs one bit a weight, the first in a byte's highest, and the kept weights in order."""
    return {"bits": torch.from_numpy(np.packbits(kept.numpy())), "values": _chosen(weight, kept)}


def from_bitmask(packed: State, shape: tuple[int, ...]) -> Tensor:
    """Lays out what ``to_bitmask`` packed as the dense tensor."""
    num = int(np.prod(shape))
    bits = np.unpackbits(packed["bits"].numpy(), count=num).astype(bool)
    found = packed["values"].new_zeros(num)
    found[torch.from_numpy(bits)] = packed["values"]
    return found.reshape(shape)


def _chosen(weight: Tensor, kept: Tensor) -> Tensor:
    """Picks the kept weights, by one number each: of more axes there would be more."""
    return weight.flatten()[kept.flatten()]


def is_two_of_four(kept: Tensor) -> bool:
    """Whether at most two of every four consecutive inputs (axis 1) are kept."""
    if kept.ndim < 2 or kept.shape[1] % GROUP:
        return False
    return bool((_grouped(kept).sum(-1) <= KEPT).all())


def to_semi_structured(weight: Tensor, kept: Tensor) -> State:
    """Packs two of every four consecutive inputs: (out, in, *kernel) by (out, *kernel, in).

    ``values`` has shape (out, *kernel, in / 2), ``places`` four bits a group: the place of the
    first value in its two lower bits, of the second in the next; two groups a byte, the first in
    the lower half. A group that keeps fewer is filled up with zeros. Exact for what is 2:4 alone.
    """
    groups, pattern = _grouped(weight), _grouped(kept)
    chosen = (~pattern).to(torch.uint8).argsort(dim=-1, stable=True)[..., :KEPT].sort(-1).values
    values = torch.where(pattern, groups, torch.zeros((), dtype=weight.dtype)).gather(-1, chosen)
    nibbles = (chosen[..., 0] | chosen[..., 1] << 2).to(torch.uint8).flatten()
    if len(nibbles) % 2:
        nibbles = torch.cat([nibbles, nibbles.new_zeros(1)])
    places = nibbles[0::2] | nibbles[1::2] << 4
    return {"places": places, "values": values.flatten(-2).contiguous()}


def from_semi_structured(packed: State, shape: tuple[int, ...]) -> Tensor:
    """Lays out what ``to_semi_structured`` packed as the dense tensor."""
    moved = (shape[0], *shape[2:], shape[1])
    values = packed["values"].unflatten(-1, (-1, KEPT))
    both = torch.stack([packed["places"] & 15, packed["places"] >> 4], dim=-1).flatten()
    nibbles = both[: values[..., 0].numel()].long().reshape(values.shape[:-1])
    chosen = torch.stack([nibbles & 3, nibbles >> 2], dim=-1)
    found = values.new_zeros(*values.shape[:-1], GROUP).scatter_(-1, chosen, values)
    return row_major(found.reshape(moved).movedim(-1, 1))


def _grouped(values: Tensor) -> Tensor:
    """Lays (out, in, *kernel) out as (out, *kernel, in / 4, 4)."""
    return values.movedim(1, -1).unflatten(-1, (-1, GROUP))
