"""The floating-point operations of a network, and those that a mask's zeros take part in."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import flop_registry

from lth_runner.cutting.operations import Operations
from lth_runner.problem.answers import answer, plain_attention
from lth_runner.values.tree import Tree

LOOKED_UP = (torch.ops.aten.embedding, torch.ops.aten._embedding_bag)  # multiply nothing


@dataclass(frozen=True)
class Flops:
    """How many there are, and how many of them multiply with a weight that a mask removes.

    ``removed`` is None where such a weight goes into what nobody can count.
    """

    total: int
    removed: int | None


@torch.no_grad()
def flops(module: nn.Module, example: Tree, mask: Mapping[str, Tensor]) -> Flops:
    """Counts by the formulas of ``torch.utils.flop_counter``, operation by operation.

    Fused operations, which it has no formulas for (attention, transformer layers, recurrent
    layers), are computed by plain ones meanwhile. ``mask`` is by the names of parameters.
    """
    weights = dict(module.named_parameters())
    counter = _Counter([(weights[name], kept) for name, kept in mask.items()])
    with _plain_operations(), Operations(counter.count):
        answer(module, example)
    return Flops(counter.total, None if counter.lost else round(counter.removed))


@contextmanager
def _plain_operations() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TF32 acceleration")  # of switching oneDNN off
        with (
            torch.backends.mkldnn.flags(enabled=False),
            plain_attention(),
            sdpa_kernel(SDPBackend.MATH),
        ):
            yield


class _Counter:
    def __init__(self, thinned: list[tuple[Tensor, Tensor]]) -> None:
        self.total, self.removed, self.lost = 0, 0.0, False
        self._thinned = [  # masks laid out in memory as their weights are
            (weight, torch.empty_like(weight, dtype=torch.bool).copy_(kept))
            for weight, kept in thinned
        ]

    def count(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Computes an operation, and counts it."""
        out, packet = func(*args, **kwargs), func.overloadpacket
        read = [each for each in pytree.tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        shares = [share for value in read if (share := self._removed_of(value)) is not None]
        if packet in flop_registry:
            num = flop_registry[packet](*args, **kwargs, out_val=out)
            self.total += num
            self.removed += num * sum(shares)
            self.lost |= len(shares) > 1
        elif shares and packet not in LOOKED_UP and not _is_view(out, read):
            self.lost = True
        return out

    def _removed_of(self, value: Tensor) -> float | None:
        """Finds the share that is removed of what a tensor shows of a thinned out weight."""
        for weight, kept in self._thinned:
            start = value.storage_offset() - weight.storage_offset()
            if _place(value) == _place(weight) and 0 <= start < weight.numel():
                seen = kept.as_strided(value.size(), value.stride(), start)
                return 1 - int(seen.sum()) / max(1, seen.numel())
        return None


def _is_view(out: Any, read: list[Tensor]) -> bool:
    places = {_place(value) for value in read}
    return all(
        _place(value) in places for value in pytree.tree_leaves(out) if isinstance(value, Tensor)
    )


def _place(value: Tensor) -> int:
    return value.untyped_storage().data_ptr()
