"""Groups of units that may change places, and where the tensors of a network have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lth_runner.values.state import State


@dataclass(frozen=True, eq=False)
class Place:
    """Where one axis of a tensor has the units of a group.

    ``index`` int64 [units, positions], of a part of them [units, places, positions]: a unit of a
    convolution has a position for each of its pixels where its channel is flattened.
    """

    name: str
    axis: int
    index: Tensor


@dataclass(frozen=True, eq=False)
class Part:
    """Places within each unit of a group that may change places among themselves.

    Heads of attention have two such parts: the places of queries and keys, which are multiplied
    with each other, and those of values and of what reads them.
    """

    places: tuple[Place, ...]
    size: int


@dataclass(frozen=True, eq=False)
class Group:
    """Units that may change places: channels, hidden units, heads, the lanes of a residual stream.

    ``layer`` names it: the first layer whose outputs they are.
    """

    layer: str
    places: tuple[Place, ...]
    size: int
    parts: tuple[Part, ...] = ()

    @property
    def identity(self) -> Order:
        """The order that leaves all where it is."""
        within = tuple(torch.arange(part.size).repeat(self.size, 1) for part in self.parts)
        return Order(torch.arange(self.size), within)

    @property
    def shifted(self) -> Order:
        """The order in which each unit, and each place within it, stands where the next one did."""
        same = self.identity
        return Order(same.units.roll(1), tuple(within.roll(1, 1) for within in same.within))

    def random(self, generator: torch.Generator) -> Order:
        """Draws an order, of each unit's places too."""
        within = tuple(
            torch.stack([torch.randperm(part.size, generator=generator) for _ in range(self.size)])
            for part in self.parts
        )
        return Order(torch.randperm(self.size, generator=generator), within)

    def sources(self, order: Order, shapes: Mapping[str, Sequence[int]]) -> list[Source]:
        """Says for each axis which of its entries goes where."""
        found = {}
        for place in self.places:
            source = torch.arange(shapes[place.name][place.axis])
            source[place.index] = place.index[order.units]
            found[place.name, place.axis] = source
        for part, within in zip(self.parts, order.within, strict=True):
            for place in part.places:
                moved = place.index[order.units]
                rows = torch.arange(self.size)[:, None].expand_as(within)
                found[place.name, place.axis][place.index] = moved[rows, within]
        return [Source(name, axis, source) for (name, axis), source in found.items()]

    @cached_property
    def names(self) -> frozenset[str]:
        """The tensors that have its units."""
        return frozenset(place.name for place in self.places)


@dataclass(frozen=True, eq=False)
class Order:
    """Which unit comes to stand at each place of a group: ``units`` [units].

    ``within``, of each part [units, places]: which of the places of the unit that comes.
    """

    units: Tensor
    within: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class Source:
    """Where the entries of one axis come from, int64 [its size]."""

    name: str
    axis: int
    index: Tensor


def reordered(state: Mapping[str, Tensor], sources: Sequence[Source]) -> State:
    """Moves the entries of each axis; tensors that have none of the axes are handed through."""
    found = dict(state)
    for one in sources:
        if one.name in found:
            found[one.name] = found[one.name].index_select(one.axis, one.index)
    return found
