"""The different targets among many, so that an objective can look at all that there are."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lth_runner.values import tree
from lth_runner.values.tree import Tree

LIMIT = 2**24  # bytes of targets that are kept; beyond them, those that reach further than all


@dataclass
class DifferentTargets:
    """Keeps one of each of the targets that it is given, each of one sample.

    Where these would fill more than 16 MiB it keeps, of further ones, those with a value that is
    smaller or larger than all before.
    """

    kept: list[Tree] = field(default_factory=list)
    _seen: set[bytes] = field(default_factory=set)
    _num_bytes: int = 0
    _reach: dict[int, tuple[float, float]] = field(default_factory=dict)

    def add(self, targets: Tree) -> None:
        key = hashlib.sha256(content(targets)).digest()
        reaches = [self._reaches(*each) for each in enumerate(tree.tensors(targets))]
        if key in self._seen or (self._num_bytes > LIMIT and not any(reaches)):
            return
        self._seen.add(key)
        self._num_bytes += sum(value.nbytes for value in tree.tensors(targets))
        self.kept.append(tree.each(Tensor.clone, targets))

    def _reaches(self, place: int, values: Tensor) -> bool:
        if not values.numel():
            return False
        low, high = (float(v) for v in values.aminmax())
        least, most = self._reach.get(place, (low, high))
        self._reach[place] = min(low, least), max(high, most)
        return low < least or high > most


def content(values: Tree) -> bytes:
    """Returns names, types, shapes and numbers as bytes."""
    found = [repr(sorted(values) if isinstance(values, Mapping) else []).encode()]
    for value in tree.tensors(values):
        found.append(f"{value.dtype}{tuple(value.shape)}".encode())
        found.append(value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return b"".join(found)
