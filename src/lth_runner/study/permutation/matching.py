"""Weight matching: the order of one network's units in which its weights are nearest another's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lth_runner.study.permutation.groups import Group, Order, Place, Source, reordered
from lth_runner.study.permutation.symmetries import Symmetries
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream
from lth_runner.values.state import State

ROUNDING = 1e-12  # relative: a gain below it is none


@dataclass(frozen=True, eq=False)
class Matched:
    """The order of every group, and the sum of products of weights before and after."""

    orders: tuple[Order, ...]
    before: float
    after: float
    num_sweeps: int


@dataclass(frozen=True)
class Matching:
    """Finds the permutation of a network that makes sum of w_a * P(w_b) largest: nearest in L2.

    Coordinate descent: one group at a time, all others held, is a linear assignment over the
    products of the weights of every two units, until a sweep over all groups gains nothing. Within
    heads of attention every two heads are matched inside first (queries with keys, values with
    what reads them), and the heads by what that comes to. The order of the groups within a sweep
    is drawn by ``seed``; gains are computed in float64, and what gains nothing is not taken, so
    that the sum never falls. At most ``num_sweeps`` sweeps. Only parameters are compared; running
    statistics are permuted with them.
    Ainsworth et al. (Git Re-Basin), ICLR 2023, arXiv 2209.04836; heads as in Rinaldi et al.
    (TransFusion), ICML 2025, who compare them by singular values. Raises UserError for no sweep.
    """

    num_sweeps: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        num = self.num_sweeps
        if isinstance(num, bool) or not isinstance(num, int) or not 1 <= num <= 1000:
            raise UserError(
                f"num_sweeps={num!r} must be a whole number from 1 to 1000: 100 is usual"
            )

    def __call__(
        self, symmetries: Symmetries, reference: Mapping[str, Tensor], other: Mapping[str, Tensor]
    ) -> Matched:
        one, two = (symmetries.in_double(state) for state in (reference, other))
        descent = _Descent(symmetries, one, two)
        before = descent.objective(one.keys())
        sweeps = 0
        for sweep in range(self.num_sweeps):
            sweeps += 1
            drawn = torch.randperm(
                len(symmetries.groups), generator=stream(self.seed, "sweep", sweep)
            )
            gained = [descent.improved(number) for number in drawn.tolist()]
            if not any(gained):
                break
        after = descent.objective(one.keys())
        return Matched(tuple(descent.orders), before, after, sweeps)


class _Descent:
    """One network on its way to another: the orders as they are."""

    def __init__(self, symmetries: Symmetries, reference: State, other: State) -> None:
        self._groups, self._shapes = symmetries.groups, symmetries.shapes
        self._reference, self._other = reference, other
        self.orders = list(symmetries.identity)
        self._sources = [self._of(g, o) for g, o in zip(self._groups, self.orders, strict=True)]

    def _of(self, group: Group, order: Order) -> list[Source]:
        return group.sources(order, self._shapes)

    def objective(self, names: Collection[str]) -> float:
        """Sums the products of the weights of some tensors, as the orders are."""
        sources = [source for one in self._sources for source in one if source.name in names]
        moved = reordered({n: self._other[n] for n in self._reference if n in names}, sources)
        return float(sum((self._reference[n] * value).sum() for n, value in moved.items()))

    def improved(self, number: int) -> bool:
        """Puts one group in the best order beside the others; says whether that gains anything."""
        group, kept = self._groups[number], (self.orders[number], self._sources[number])
        before = self.objective(group.names)
        self.orders[number] = self._assigned(number)
        self._sources[number] = self._of(group, self.orders[number])
        after = self.objective(group.names)
        if after > before + ROUNDING * max(1.0, abs(before)):
            return True
        self.orders[number], self._sources[number] = kept
        return False

    def _assigned(self, number: int) -> Order:
        group = self._groups[number]
        gains = np.zeros((group.size, group.size))
        for place in group.places:
            if place.name in self._reference:
                rest = _beside_parts(group, place)
                if rest.numel():
                    ours, theirs = self._rows(place, rest)
                    gains += (ours.flatten(1) @ theirs.flatten(1).t()).numpy()
        inner = []
        for part in group.parts:
            orders, of_part = self._within(part.places, group.size, part.size)
            gains += of_part
            inner.append(orders)
        units = torch.from_numpy(_assign(gains))
        rows = torch.arange(group.size)
        return Order(units, tuple(orders[rows, units] for orders in inner))

    def _rows(self, place: Place, index: Tensor) -> tuple[Tensor, Tensor]:
        """Picks both networks' weights by unit, all but this axis in the order that it has."""
        others = [
            source
            for one in self._sources
            for source in one
            if source.name == place.name and source.axis != place.axis
        ]
        moved = reordered({place.name: self._other[place.name]}, others)[place.name]
        both = (self._reference[place.name], moved)
        ours, theirs = (value.movedim(place.axis, 0)[index] for value in both)
        return ours, theirs

    def _within(self, places: Sequence[Place], num: int, size: int) -> tuple[Tensor, np.ndarray]:
        """Matches the places within every two units: orders [units, units, places], and sums."""
        gains = np.zeros((num, num, size, size))
        for place in places:
            if place.name in self._reference:
                ours, theirs = (x.flatten(2) for x in self._rows(place, place.index))
                gains += torch.einsum("ipx,jqx->ijpq", ours, theirs).numpy()
        orders = np.array([[_assign(gains[i, j]) for j in range(num)] for i in range(num)])
        best = np.take_along_axis(gains, orders[..., None], 3).sum((2, 3))
        return torch.from_numpy(orders), best


def _beside_parts(group: Group, place: Place) -> Tensor:
    """Picks the positions of each unit that belong to no part, [units, positions]."""
    of_parts = [
        one.index.reshape(-1)
        for part in group.parts
        for one in part.places
        if (one.name, one.axis) == (place.name, place.axis)
    ]
    if not of_parts:
        return place.index
    kept = ~torch.isin(place.index, torch.cat(of_parts))
    return place.index[kept].reshape(group.size, -1)


def _assign(gains: np.ndarray) -> np.ndarray:
    """Solves the linear assignment that gains most: the column of each row."""
    from scipy.optimize import linear_sum_assignment  # which takes a second to import

    found: np.ndarray = linear_sum_assignment(gains, maximize=True)[1]
    return found
