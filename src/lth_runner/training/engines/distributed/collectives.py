"""Sums over the ranks, and the error of a rank that is cut off from the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lth_runner.values.raised import reason_of
from lth_runner.values.ranks import Rank

PATIENCE = timedelta(hours=1)  # with a rank that lives and comes to no sum


class Severed(RuntimeError):
    """Says that a sum over the ranks has failed: another one is gone, or the network."""


@contextmanager
def severed() -> Iterator[None]:
    """Makes Severed of what torch raises in a sum over the ranks."""
    try:
        yield
    except RuntimeError as error:
        raise Severed(reason_of(error)) from error


@contextmanager
def severed_within() -> Iterator[None]:
    """Makes Severed of a failed sum where torch's own code makes it, and leaves other errors."""
    try:
        yield
    except RuntimeError as error:
        is_of_a_sum = isinstance(error, dist.DistError) or any(
            backend in str(error) for backend in ("gloo", "NCCL")
        )
        if isinstance(error, Severed) or not is_of_a_sum:
            raise
        raise Severed(reason_of(error)) from error


def connect(rank: Rank, backend: str, store: dist.Store, device: torch.device) -> Any:
    """Makes the connections that sums go through, once all ranks do; gives those of gradients."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with severed():
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("sums", store),
            rank=rank.number,
            world_size=rank.num,
            timeout=PATIENCE,
        )
        return dist.new_group(timeout=PATIENCE)


def summed(values: Tensor) -> Tensor:
    """Adds up a tensor over the ranks, in place: the same bits on each."""
    with severed():
        dist.all_reduce(values)
    return values


def widest(device: torch.device) -> torch.dtype:
    """Gives the longest numbers of a device."""
    return torch.float32 if device.type == "mps" else torch.float64


def summed_number(value: float, device: torch.device) -> float:
    """Adds up a number over the ranks."""
    return float(summed(torch.tensor(value, dtype=widest(device), device=device)))


def is_same(value: int, device: torch.device) -> bool:
    """Whether a number is the same on all ranks."""
    most = torch.tensor([value, -value], device=device)
    with severed():
        dist.all_reduce(most, dist.ReduceOp.MAX)
    return most.sum().item() == 0
