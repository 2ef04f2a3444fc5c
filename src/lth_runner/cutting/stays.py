"""Which entries of a network's tensors stay when its dead parts are cut out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.cutting.dead import Dead
from lth_runner.cutting.found import Found


@dataclass(frozen=True)
class Stays:
    """The places of one tensor that stay: along some of its axes, or group by group.

    ``groups`` of the weight of a grouped convolution: the outputs and inputs of each group that
    stay (of a transposed one the inputs and outputs), None for a group that goes. Called with a
    tensor of the old shape, or one that gradients go back through, it returns what stays of it.
    """

    axes: tuple[tuple[int, Tensor], ...] = ()
    groups: tuple[tuple[Tensor, Tensor] | None, ...] = ()

    def __call__(self, value: Tensor) -> Tensor:
        if self.groups:
            parts = zip(value.chunk(len(self.groups)), self.groups, strict=True)
            return torch.cat([
                _chosen(part, enumerate(pair)) for part, pair in parts if pair is not None
            ])  # fmt: skip
        return _chosen(value, self.axes)

    def on(self, device: torch.device) -> Stays:
        """Returns the same with its places on a device, where no step has to wait for them."""
        axes = tuple((axis, places.to(device)) for axis, places in self.axes)
        pairs = (pair and (pair[0].to(device), pair[1].to(device)) for pair in self.groups)
        return Stays(axes, tuple(pairs))

    def __bool__(self) -> bool:
        return bool(self.axes or self.groups)


def stays(name: str, slots: list[Tensor | None], found: Found, dead: Dead) -> Stays:
    """Finds what stays of a tensor whose axes have these labels; false where all of it does."""
    if name in found.grouped:
        own = found.grouped[name]
        sides = list(zip(own.outputs, own.inputs, strict=True))
        if not any(bool(dead.goes(labels).any()) for side in sides for labels in side):
            return Stays()
        pairs = [(_places(rows, dead), _places(columns, dead)) for rows, columns in sides]
        if own.transposed:
            pairs = [(rows, columns) for columns, rows in pairs]
        return Stays(groups=tuple(pair if len(pair[0]) else None for pair in pairs))
    return Stays(axes=tuple(
        (axis, _places(labels, dead))
        for axis, labels in enumerate(slots)
        if labels is not None and bool(dead.goes(labels).any())
    ))  # fmt: skip


def _places(labels: Tensor, dead: Dead) -> Tensor:
    return (~dead.goes(labels)).nonzero().reshape(-1)


def _chosen(value: Tensor, wanted: Iterable[tuple[int, Tensor]]) -> Tensor:
    for axis, places in wanted:
        value = value.index_select(axis, places.to(value.device))
    return value
