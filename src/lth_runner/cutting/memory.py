"""Tensors that lie in one memory, where what is written into one is read from another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor


def beside_in_memory(
    value: Tensor, flags: Tensor, others: Iterable[Tensor]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields those of others that share a tensor's memory, each with the flags of its places.

    ``flags`` are those of ``value``; of places that it has not, they are false.
    """
    memory = value.untyped_storage()
    own = torch.zeros(len(memory) // value.itemsize, dtype=torch.bool, device=value.device)
    _placed(own, value).copy_(flags)
    for other in others:
        if other is not value and other.untyped_storage().data_ptr() == memory.data_ptr():
            yield other, _placed(own, other) if other.dtype == value.dtype else own.any()


def _placed(flags: Tensor, value: Tensor) -> Tensor:
    """Views flags of a memory as a tensor lies in it."""
    return flags.as_strided(value.shape, value.stride(), value.storage_offset())
