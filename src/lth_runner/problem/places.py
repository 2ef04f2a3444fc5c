"""The places where a network's tensors are registered, of which one tensor may have several."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn


def places(module: nn.Module) -> dict[str, str]:
    """Maps every place of a tensor in a network to the tensor's own name, that of its first place.

    A module with two names is one module, and each of its tensors has one place there; a tensor
    that two modules share has one in each of them.
    """
    first = {id(value): name for name, value in reversed([*_registered(module)])}
    named = {id(value): name for name, value in module.named_parameters()}
    return {name: (first | named)[id(value)] for name, value in _registered(module)}


def _registered(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Goes through the parameters, then the buffers, of each module once; shared ones again."""
    for kind in ("_parameters", "_buffers"):
        for path, part in module.named_modules():
            for leaf, value in getattr(part, kind).items():
                if value is not None:
                    yield f"{path}.{leaf}" if path else leaf, value


def moved(module: nn.Module, to: torch.device | torch.dtype | str) -> nn.Module:
    """Moves a network, or its floats to another precision, and keeps buffers that are shared so.

    torch moves each place of a buffer by itself, so that the two would go apart.
    """
    shared = [(place, name) for place, name in places(module).items() if place != name]
    module.to(to)
    for place, name in shared:
        path, _, leaf = place.rpartition(".")
        part = module.get_submodule(path)
        if leaf in part._buffers:
            at, _, own = name.rpartition(".")
            part._buffers[leaf] = getattr(module.get_submodule(at), own)
    return module


def overlapping(module: nn.Module) -> tuple[str, str] | None:
    """Finds two tensors of different names over the same memory; None where there are none."""
    named, spans = dict(_registered(module)), []
    for name in dict.fromkeys(places(module).values()):
        value = named[name]
        if value.layout is torch.strided and value.numel() and value.device.type != "meta":
            begin = value.data_ptr()
            spans.append((begin, begin + _extent(value) * value.element_size(), name, value))
    spans.sort(key=lambda span: span[:3])
    furthest = None
    for one, other in pairwise(spans):
        furthest = one if furthest is None or one[1] > furthest[1] else furthest
        if other[0] < furthest[1] and _meet(furthest[3], other[3]):
            return furthest[2], other[2]
    return None


def _extent(value: Tensor) -> int:
    """Counts the values of memory from a tensor's first to its last."""
    return 1 + sum(
        (size - 1) * step for size, step in zip(value.shape, value.stride(), strict=True)
    )


def _meet(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have a place of memory in common: two columns of a matrix do not."""
    if one.dtype != other.dtype:
        return True
    held = [
        torch.arange(_extent(value)).as_strided(value.shape, value.stride()).flatten()
        + value.data_ptr() // value.element_size()
        for value in (one, other)
    ]
    return bool(torch.isin(*held).any())
