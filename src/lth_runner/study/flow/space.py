"""The space that networks are generated in: weights in one order, or few coordinates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from tqdm import tqdm

from lth_runner.problem.batch_norm_statistics import pieces, recompute, with_statistics
from lth_runner.study.flow.layout import Layout
from lth_runner.study.flow.population import Member, Population
from lth_runner.study.flow.reduction import Principal
from lth_runner.study.permutation import Matching, Order, Symmetries
from lth_runner.values import identity
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import derive
from lth_runner.values.state import State

SAMPLES = 5000  # training samples that running statistics are measured on


@dataclass(frozen=True, eq=False)
class Space:
    """Networks in one order of their units, as points of ``num`` coordinates.

    ``matching`` puts each network's units in the order that is nearest the first one's; None
    leaves them as they were trained. ``num``: of principal components, None for all weights.
    What takes long to compute is kept beside the trainings in the Store, under a hash of all that
    it was made of: the orders of a network beside that network, the components beside the first.

    Raises UserError for networks that cannot be permuted, for tickets, whose one mask would be
    permuted with them, and for more components than networks span.
    """

    population: Population
    matching: Matching | None
    num: int | None

    def __post_init__(self) -> None:
        if self.matching is not None and self.population.mask is not None:
            raise UserError(
                "dataset.canonicalize=true permutes units and with them masks, and these tickets "
                "share one: set dataset.canonicalize=false, or take dense networks "
                "(dataset.round=0)"
            )
        check_components(self.num, len(self.population.members), self.layout.size)
        if self.matching is not None:
            self.symmetries.groups  # noqa: B018 (which refuses a network that cannot be permuted)

    @cached_property
    def symmetries(self) -> Symmetries:
        """Which units may change places."""
        return Symmetries.of(self.population.tasks[0])

    @cached_property
    def layout(self) -> Layout:
        """Where each weight stands in a row."""
        first = self.population.members[0]
        module = self.population.tasks[0].module()
        names = [name for name, value in module.named_parameters() if value.is_floating_point()]
        return Layout(first.state, tuple(names), self.population.mask)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that it is made of."""
        own = [self.population.fingerprint, identity.describe(self.matching), self.num]
        return identity.digest(own)

    @cached_property
    def rows(self) -> Tensor:
        """The networks in one order, [networks, weights]."""
        if self.matching is None:
            return self.layout.rows([one.state for one in self.population.members])
        first, *others = self.population.members
        told = tqdm(others, "match", unit="network", leave=False, disable=None)
        return self.layout.rows([first.state, *(self._in_order(first, one) for one in told)])

    def _in_order(self, first: Member, one: Member) -> State:
        assert self.matching is not None
        matching, symmetries = self.matching, self.symmetries
        made_of = [first.fingerprint, one.fingerprint, identity.describe(matching)]

        def find() -> State:
            return packed(matching(symmetries, first.state, one.state).orders)

        kept = one.entry.derived(f"order-{identity.digest(made_of, 16)}", find)
        return symmetries.applied(one.state, unpacked(kept, symmetries))

    @cached_property
    def principal(self) -> Principal | None:
        """The plane of the coordinates; None where they are the weights."""
        if self.num is None:
            return None
        num = self.num

        def find() -> State:
            found = Principal.of(self.rows, num)
            explained = torch.tensor(found.explained, dtype=torch.float64)
            return {"mean": found.mean, "components": found.components, "explained": explained}

        entry = self.population.members[0].entry
        kept = entry.derived(f"components-{identity.digest(self.fingerprint, 16)}", find)
        return Principal(kept["mean"], kept["components"], float(kept["explained"]))

    @cached_property
    def points(self) -> Tensor:
        """The networks' coordinates, [networks, coordinates]."""
        return self.rows if self.principal is None else self.principal.reduced(self.rows)

    def weights(self, points: Tensor) -> Tensor:
        """Computes the weights of points, [points, weights]."""
        return points if self.principal is None else self.principal.back(points)

    def networks(self, rows: Tensor, condition: int = 0) -> Iterator[State]:
        """Makes networks of weights, running statistics measured on training samples alone."""
        task = self.population.tasks[condition]
        module = task.module()
        seed = derive(task.seed, "flow", "statistics")
        num = min(SAMPLES, task.data.num_train)
        batches = pieces(task.data.sample(num, seed)) if with_statistics(module) else []
        for row in rows:
            state = self.layout.network(row)
            if batches:
                states.write(module, state)
                recompute(module, batches)
                state = states.read(module)
            yield state


def check_components(num: int | None, num_networks: int, size: int) -> None:
    """Raises UserError for a number of components that so many networks cannot have."""
    if num is None:
        return
    most = min(num_networks - 1, size)
    if isinstance(num, bool) or not isinstance(num, int) or num < 1:
        raise UserError(
            f"dataset.components={num!r}: give a whole number from 1, or null for all weights"
        )
    if num > most:
        raise UserError(
            f"dataset.components={num}: {num_networks} networks of {size} weights span {most} "
            f"directions: set it to {most} at most, or train more networks (replicates)"
            if most
            else f"dataset.components={num}: one network spans no direction: train more of them "
            "(replicates=100)"
        )


def packed(orders: Sequence[Order]) -> State:
    """Lays orders out as named tensors."""
    found = {f"{i}.units": order.units for i, order in enumerate(orders)}
    return found | {
        f"{i}.within.{j}": within
        for i, order in enumerate(orders)
        for j, within in enumerate(order.within)
    }


def unpacked(kept: State, symmetries: Symmetries) -> list[Order]:
    """Reads orders back."""
    return [
        Order(kept[f"{i}.units"], tuple(kept[f"{i}.within.{j}"] for j in range(len(group.parts))))
        for i, group in enumerate(symmetries.groups)
    ]
