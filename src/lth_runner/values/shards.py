"""Tensors of which every process of several holds a part: torch's DTensors, beside plain ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


def is_shard(tensor: Tensor) -> bool:
    """Whether a tensor is one that lies on several processes, a part on each."""
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """Gives a tensor in whole, from all processes that hold a part, which must all ask for it."""
    value: Any = tensor
    found: Tensor = value.full_tensor() if is_shard(tensor) else tensor
    return found


def local(tensor: Tensor) -> Tensor:
    """Gives the part of a tensor that lies in this process, in the same memory."""
    value: Any = tensor.detach()
    with torch.no_grad():  # else a view that writes nowhere
        found: Tensor = value.to_local() if is_shard(tensor) else tensor
    return found


def local_of(value: Tensor, like: Tensor) -> Tensor:
    """Gives the part of a whole value that lies where this process's part of ``like`` does."""
    if not is_shard(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    spread: Any = like
    # each process has the whole value: nothing is sent
    parts = distribute_tensor(value, spread.device_mesh, spread.placements, src_data_rank=None)
    return local(parts)


class Holders(Protocol):
    """The processes that hold parts of a tensor, ``num`` of them, this one the ``number``-th."""

    @property
    def number(self) -> int: ...

    @property
    def num(self) -> int: ...

    def summed(self, value: Tensor) -> Tensor:
        """Adds up a plain tensor over them, in place: the same on each."""


@dataclass(frozen=True)
class MeshHolders:
    """The processes of a DTensor's mesh."""

    mesh: Any

    @property
    def number(self) -> int:
        return int(self.mesh.get_local_rank())

    @property
    def num(self) -> int:
        return int(self.mesh.size())

    def summed(self, value: Tensor) -> Tensor:
        import torch.distributed as dist

        dist.all_reduce(value, group=self.mesh.get_group())
        return value


def holders(tensor: Tensor) -> Holders:
    """Gives the processes that hold parts of a tensor, which is a shard."""
    value: Any = tensor
    return MeshHolders(value.device_mesh)


def whole_from(part: Tensor, like: Tensor) -> Tensor:
    """Puts a value together of which each process has the part that it has of ``like``.

    ``like`` is a shard.
    """
    from torch.distributed.tensor import DTensor

    spread: Any = like
    stride = torch.empty(like.shape, device="meta").stride()
    parts = DTensor.from_local(
        part.contiguous(), spread.device_mesh, spread.placements, shape=like.shape, stride=stride
    )
    return whole(parts)


def are_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all values are finite, of all processes that hold parts, which must all ask."""
    found = list(tensors)
    shards = [tensor for tensor in found if is_shard(tensor)]
    own = all(bool(local(tensor).isfinite().all()) for tensor in found)
    if not shards:
        return own
    num_other = torch.tensor(float(not own), device=local(shards[0]).device)
    return not bool(holders(shards[0]).summed(num_other))
