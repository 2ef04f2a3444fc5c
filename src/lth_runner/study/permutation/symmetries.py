"""Which units of a network may change places, read off its own graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lth_runner.cutting.answers import Answers, ask, ask_another, call, difference, tensors
from lth_runner.cutting.found import Found, Product
from lth_runner.cutting.plain import additions
from lth_runner.cutting.recurrent import WHOLES
from lth_runner.cutting.rules import rule_of
from lth_runner.cutting.trace import Trace
from lth_runner.problem.answers import plain_attention
from lth_runner.problem.task import Task
from lth_runner.study.permutation.groups import Group, Order, Part, Place, reordered
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.listed import listed
from lth_runner.values.raised import first_line
from lth_runner.values.seeds import stream
from lth_runner.values.state import State

SHOWN = 3  # layers that a message names
NO_EQUALS = "none of them is of the same use to the network as another"


@dataclass(frozen=True, eq=False)
class Symmetries:
    """The groups of a network's units that may change places; it computes the same after.

    Found by one pass through the network: what is added, normalised channel by channel or
    multiplied place by place shares an order, over residual connections, flattening and shared
    modules; inputs and outputs stay, and so does what a mean, softmax or slice is taken over. Each
    group is tried with every unit moved, and left out where the network answers otherwise.

    ``stays``: layer -> why its outputs keep their places, the output layer's among them.
    ``parameters``: the tensors that are trained, no running statistics.
    """

    groups: tuple[Group, ...]
    stays: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    parameters: frozenset[str]

    @classmethod
    def of(cls, task: Task) -> Symmetries:
        """Finds those of a task's network; raises UserError, naming what is in the way, for none.

        Of its stock weights: coordinates are merged before anything is permuted.
        """
        with torch.random.fork_rng(devices=[]):
            module = task.module().cpu().eval()
        states.write(module, task.fresh(task.seed))
        inputs, _ = task.data.to("cpu").sample(min(2, task.data.num_train), 0)
        return cls.of_module(module, inputs)

    @classmethod
    def of_module(cls, module: nn.Module, example: Any) -> Symmetries:
        """Finds those of a network that answers an example in evaluation."""
        if hooked := list(additions(module)):
            raise UserError(
                f"the network cannot be permuted: {listed(hooked[:SHOWN])} has hooks or "
                "parametrisations, whose tensors are not those that it computes with"
            )
        found = _traced(module, example)
        shapes = {name: tuple(value.shape) for name, value in states.named_tensors(module)}
        groups = _Groups(found, shapes)
        kept, failing = _holding(module, example, groups.groups, shapes)
        stays = groups.stays | {one.layer: why for one, why in failing.items()}
        if not kept:
            told = [f"{layer}: {why}" for layer, why in stays.items()]
            raise UserError(
                "the network cannot be permuted: no layer has units that may change places ("
                f"{listed(told[:SHOWN])})"
            )
        parameters = frozenset(name for name, _ in module.named_parameters())
        return cls(tuple(kept), stays, shapes, parameters)

    def applied(self, state: Mapping[str, Tensor], orders: Sequence[Order]) -> State:
        """Puts the units of all groups in an order; masks are permuted as weights are."""
        sources = [
            source
            for group, order in zip(self.groups, orders, strict=True)
            for source in group.sources(order, self.shapes)
        ]
        return reordered(state, sources)

    def in_double(self, state: Mapping[str, Tensor]) -> State:
        """Picks what is trained, in float64."""
        return {name: v.double() for name, v in state.items() if name in self.parameters}

    def random(self, seed: int) -> list[Order]:
        """Draws an order for every group."""
        return [group.random(stream(seed, "order", i)) for i, group in enumerate(self.groups)]

    @cached_property
    def identity(self) -> list[Order]:
        """The orders that leave all where it is."""
        return [group.identity for group in self.groups]


def _traced(module: nn.Module, example: Any) -> Found:
    try:
        trace = Trace(module, rule_of, WHOLES)
        with plain_attention(), trace.watching(tensors(example)):
            answers = tensors(call(module, example))
        trace.answered(answers)
    except Exception as error:  # of a forward that may be anyone's
        raise UserError(
            f"the network cannot be permuted: followed through in float64 it fails: "
            f"{first_line(error)}"
        ) from error
    return trace.found


class _Groups:
    """Sorts the slots that a pass has found into groups that are of the same use."""

    def __init__(self, found: Found, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._found, self._shapes = found, shapes
        self._whole, self._fine = found.ties.classes(), found.ties.classes(whole=False)
        self._why = dict(self._fixed())
        self._axes = [
            (name, axis, self._whole[slots.numpy()], self._fine[slots.numpy()])
            for name, own in found.axes.items()
            for axis, slots in enumerate(own)
            if slots is not None
        ]
        self.groups = [group for one in self._sorted() if (group := self._group(one)) is not None]
        self.stays = self._staying()

    def _fixed(self) -> Iterator[tuple[int, str]]:
        """Goes through the classes that keep their places, and why."""
        ties = self._found.ties
        yield int(self._whole[0]), ""
        for reason in [*ties.placed, *ties.heard]:
            if not reason.movable:
                for each in np.unique(self._whole[reason.slots.numpy()]):
                    yield int(each), reason.why
        for grouped in self._found.grouped.values():
            why = f"{grouped.layer} is a convolution in groups"
            for slots in (grouped.inputs, grouped.outputs):
                for each in np.unique(self._whole[slots.reshape(-1).numpy()]):
                    yield int(each), why
        for name, own in self._found.axes.items():
            for one in own if name not in self._shapes else ():
                for each in np.unique(self._whole[one.numpy()]) if one is not None else ():
                    yield int(each), f"{name} is no tensor of a file of weights"

    def _sorted(self) -> list[list[int]]:
        """Lists the classes of the same use: on the same axes as often, in the same halves."""
        use: dict[int, list[tuple[Any, ...]]] = {}
        for name, axis, whole, _ in self._axes:
            for each, count in zip(*np.unique(whole, return_counts=True), strict=True):
                use.setdefault(int(each), []).append((name, axis, int(count)))
        for number, (_, parts) in enumerate(self._found.halves):
            for half, slots in enumerate(parts):
                of_half = self._whole[slots.reshape(-1).numpy()]
                for each, count in zip(*np.unique(of_half, return_counts=True), strict=True):
                    if int(each) in use:
                        use[int(each)].append((f"half {number}", half, int(count)))
        alike: dict[tuple[Any, ...], list[int]] = {}
        for each, where in use.items():
            if each not in self._why:
                alike.setdefault(tuple(where), []).append(each)
        return list(alike.values())

    def _group(self, classes: list[int]) -> Group | None:
        """Makes a group of classes of the same use, in the order of their first axis."""
        if len(classes) < 2:
            return None
        places, wanted = [], np.array(classes)
        for name, axis, whole, _ in self._axes:
            if np.isin(whole, wanted).any():
                rows = [np.flatnonzero(whole == each) for each in classes]
                places.append(Place(name, axis, torch.from_numpy(np.stack(rows))))
        layer = next(p.name for p in sorted(places, key=lambda place: place.axis > 0))
        parts = tuple(self._parts(classes, places))
        return Group(layer.rpartition(".")[0] or layer, tuple(places), len(classes), parts)

    def _parts(self, classes: list[int], places: Sequence[Place]) -> Iterator[Part]:
        """Finds what may change places within each class: the places within heads."""
        seen: set[tuple[int, ...]] = set()
        for label in self._found.heads:
            rows = label.reshape(-1, label.shape[-1]).numpy()
            of = {int(self._whole[row[0]]): self._fine[row] for row in rows}
            if not set(classes) <= of.keys():
                continue
            fine = np.stack([of[each] for each in classes])
            key = tuple(np.sort(fine.reshape(-1)).tolist())
            if len(set(key)) < len(key) or key in seen:
                continue  # some places of a head are tied to others of it, or they are known
            seen.add(key)
            inner = [one for place in places if (one := self._within(place, fine)) is not None]
            yield Part(tuple(inner), fine.shape[1])

    def _within(self, place: Place, fine: np.ndarray) -> Place | None:
        slots = self._found.axes[place.name][place.axis]
        assert slots is not None
        own = self._fine[slots.numpy()]
        if not np.isin(own, fine).any():
            return None
        rows = [[np.flatnonzero(own == each) for each in unit] for unit in fine]
        return Place(place.name, place.axis, torch.from_numpy(np.array(rows)))

    def _staying(self) -> dict[str, str]:
        """Says for each layer whose outputs are in no group why they stay."""
        moving = {(place.name, place.axis) for group in self.groups for place in group.places}
        stays: dict[str, str] = {}
        for product in self._found.products:
            axis = self._outputs(product)
            if axis is not None and axis not in moving:
                name, number = axis
                slots = self._found.axes[name][number]
                assert slots is not None
                of = [int(each) for each in self._whole[slots.numpy()]]
                whys = [self._why[each] for each in of if self._why.get(each)]
                stays.setdefault(product.layer, whys[0] if whys else NO_EQUALS)
        return stays

    def _outputs(self, product: Product) -> tuple[str, int] | None:
        """Finds the axis that a layer's outputs are on: of its weight, where it has one.

        Else, as in a recurrent layer, the first axis of the first tensor of its own.
        """
        name = f"{product.layer}.weight"
        own = self._found.axes.get(name, [])
        axis = next((i for i, one in enumerate(own) if _same(one, product.outputs)), None)
        if axis is not None:
            return name, axis
        if own:
            return None
        for other, axes in self._found.axes.items():
            if other.rpartition(".")[0] == product.layer and axes and axes[0] is not None:
                return other, 0
        return None


def _same(slots: Tensor | None, outputs: Tensor) -> bool:
    return slots is not None and slots.shape == outputs.shape and bool((slots == outputs).all())


def _holding(
    module: nn.Module,
    example: Any,
    groups: Sequence[Group],
    shapes: Mapping[str, tuple[int, ...]],
) -> tuple[list[Group], dict[Group, str]]:
    """Tries each group with every unit moved; returns those that hold, and why others do not."""
    given = states.read(module)
    before = {name: _scattered(name, value) for name, value in given.items()}
    states.write(module, before)
    another, answers = ask_another(module, example, 0)
    inputs, expected = [example, another], [ask(module, example, {}), answers]

    def failure(tried: Sequence[Group]) -> str:
        sources = [source for group in tried for source in group.sources(group.shifted, shapes)]
        states.write(module, reordered(before, sources))
        return _told(expected, [ask(module, each, {}) for each in inputs])

    failing: dict[Group, str] = {}
    if groups and failure(groups):
        failing = {group: f"permuted, {why}" for group in groups if (why := failure([group]))}
    states.write(module, given)
    return [group for group in groups if group not in failing], failing


def _scattered(name: str, value: Tensor) -> Tensor:
    """Makes every value differ from its neighbours, a fresh norm's too; none changes its sign."""
    if not value.is_floating_point():
        return value
    draw = torch.rand(value.shape, generator=stream(0, "scatter", name))
    added = 0.1 * torch.rand(value.shape, generator=stream(1, "scatter", name))
    return value * (1 + 0.5 * draw) + (added if value.ndim < 2 else 0.0)


def _told(expected: Sequence[Answers], given: Sequence[Answers]) -> str:
    pairs = zip(expected, given, strict=True)
    return next((told for pair in pairs if (told := difference(*pair))), "")
