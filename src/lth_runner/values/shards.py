"""Tensors of which every process of several holds a part: torch's DTensors, beside plain ones."""

from __future__ import annotations

from typing import Any

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
