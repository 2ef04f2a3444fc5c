"""Labels say which slots of a network's tensors go or stay together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

NONE = 0  # the label of what belongs to no slot

# Labels of one tensor, as int64 of its rank: a size of 1 where the slot is the same all along.
Label = Tensor


@dataclass
class Shadow:
    """What is known of one tensor beside its values.

    ``labels`` vary along different axes; ``varies`` (bool, the tensor's shape) is false where the
    value depends on no input. ``root`` is the parameter or buffer that the tensor is, but for the
    order of its axes. ``sums_to_one``: its last axis does. ``stacked``: its first axis numbers
    tensors (the layers of a recurrent network) that lose as many slots, each its own.
    """

    labels: list[Label]
    varies: Tensor
    root: str | None = None
    sums_to_one: bool = False
    stacked: bool = False


def axes(label: Label) -> set[int]:
    """Finds the axes along which a label varies."""
    return {axis for axis, size in enumerate(label.shape) if size > 1}


def compact(label: Label) -> Label:
    """Narrows a label to one entry along each axis where all entries are equal."""
    for axis, size in enumerate(label.shape):
        first = label.narrow(axis, 0, min(size, 1))
        if size > 1 and (label.stride(axis) == 0 or bool((label == first).all())):
            label = first
    return label


def any_like(flags: Tensor, label: Label) -> Tensor:
    """Reduces flags of a tensor's shape to those of a label: true where any is, or none there."""
    if not flags.numel():
        return torch.ones_like(label, dtype=torch.bool)
    for axis, size in enumerate(label.shape):
        if size == 1 and flags.shape[axis] > 1:
            flags = flags.any(axis, keepdim=True)
    return flags


def reshaped(label: Label, old: Sequence[int], new: Sequence[int]) -> Label:
    """Reshapes the label of a tensor of shape ``old`` as the tensor itself is reshaped to ``new``.

    Axes that are neither merged nor split keep their single entry.
    """
    blocks = list(_blocks(old, new))
    expanded, target = list(label.shape), [1] * len(new)
    for before, after in blocks:
        if any(label.shape[axis] > 1 for axis in before):
            for axis in before:
                expanded[axis] = old[axis]
            for axis in after:
                target[axis] = new[axis]
    return compact(label.expand(expanded).reshape(target))


def _blocks(old: Sequence[int], new: Sequence[int]) -> Iterable[tuple[list[int], list[int]]]:
    """Pairs the axes of two shapes into the smallest blocks of equal size, in order."""
    i = j = 0
    found: list[tuple[list[int], list[int]]] = []
    while i < len(old) and j < len(new):
        before, after, left, right = [i], [j], old[i], new[j]
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left *= old[i]
                before.append(i)
                i += 1
            else:
                right *= new[j]
                after.append(j)
                j += 1
        found.append((before, after))
    if found:  # what is left over are axes of one entry
        found[-1][0].extend(range(i, len(old)))
        found[-1][1].extend(range(j, len(new)))
    return found


@dataclass(frozen=True)
class Reason:
    """Says why some slots stay.

    ``varying``: those whose value depends on inputs; the others are dead, though they stay.
    ``alone``: they are dead whatever goes with them. ``movable``: they stay, but may change places.
    """

    slots: Tensor
    why: str
    varying: Tensor
    alone: bool = False
    movable: bool = False


@dataclass
class Ties:
    """Collects which slots go together, and which stay.

    ``heard``: what they hold is used; ``placed``: where they stand is; ``notes``: constant ones,
    and why they stay should they stay. Ties of a ``whole`` hold parts together that may change
    places among themselves, as the places within a head.
    """

    num: int = 1
    heard: list[Reason] = field(default_factory=list)
    placed: list[Reason] = field(default_factory=list)
    notes: list[Reason] = field(default_factory=list)
    _pairs: list[Tensor] = field(default_factory=list)
    _wholes: list[Tensor] = field(default_factory=list)

    def fresh(self, num: int) -> Tensor:
        """Makes labels that nothing has."""
        self.num += num
        return torch.arange(self.num - num, self.num)

    def tie(self, one: Label, other: Label, *, whole: bool = False) -> None:
        """Makes slots at the same place go together, or not at all."""
        left, right = torch.broadcast_tensors(one, other)
        pairs = torch.stack([left.reshape(-1), right.reshape(-1)])
        pairs = pairs[:, (pairs != NONE).all(0) & (pairs[0] != pairs[1])]
        kept = self._wholes if whole else self._pairs
        kept.append(pairs.unique(dim=1) if pairs.shape[1] > 1 else pairs)

    def tie_along(self, label: Label, along: Iterable[int], *, whole: bool = False) -> Label:
        """Makes all slots along some axes go together; returns the label without these axes."""
        within = [axis for axis in along if label.shape[axis] > 1]
        if not within:
            return label
        first = label.amax(within, keepdim=True)
        self.tie(label, first, whole=whole)
        return first

    def hear(self, label: Label, varies: Tensor, why: str, *, movable: bool = False) -> None:
        """Keeps slots whose values something uses that cannot be cut; constant ones are noted."""
        varying = any_like(varies, label).cpu()
        used = label[varying].reshape(-1)
        self.heard.append(Reason(label.reshape(-1), why, used, movable=movable))
        self.note(label, ~varying, why)

    def note(self, label: Label, constant: Tensor, why: str, *, alone: bool = False) -> None:
        """Remembers why constant slots stay, should they stay."""
        slots = label[constant].reshape(-1)
        self.notes.append(Reason(slots, why, slots[:0], alone))

    def lose(self, label: Label, why: str) -> None:
        """Keeps slots that cannot be followed any further."""
        self.heard.append(Reason(label.reshape(-1), why, label.reshape(-1)))

    def place(self, label: Label, why: str, *, movable: bool = False) -> None:
        """Keeps slots whose number cannot change."""
        slots = label.reshape(-1)
        self.placed.append(Reason(slots, why, slots[:0], movable=movable))

    def fix(self, label: Label, along: set[int], why: str) -> Label:
        """Lets nothing go along some axes: ties what varies elsewhere too, and keeps the rest."""
        if axes(label) - along:
            return self.tie_along(label, along)
        self.place(label, why)
        return label

    def vector(self, labels: Iterable[Label], axis: int, why: str) -> Label | None:
        """Finds the slots along one axis, tying what varies along others too."""
        for label in labels:
            if axis in axes(label):
                return self.tie_along(label, axes(label) - {axis}).reshape(-1)
        return None

    def combine(
        self, operands: Iterable[tuple[Sequence[int], list[Label]]], rank: int, why: str
    ) -> list[Label]:
        """Labels what is computed place by place from tensors of these shapes and labels.

        Slots that meet go together; slots that meet a tensor without slots there stay.
        """
        aligned = [
            (_padded(shape, rank), [label.reshape(_padded(label.shape, rank)) for label in labels])
            for shape, labels in operands
        ]
        merged: list[Label] = []
        for _, labels in aligned:
            for label in labels:
                merged = self._merged(merged, label)
        return [self._met(label, aligned, why) for label in merged]

    def _merged(self, merged: list[Label], label: Label) -> list[Label]:
        apart = []
        for other in merged:
            if axes(other) & axes(label):
                self.tie(label, other, whole=axes(label) != axes(other))
                label = torch.where(label != NONE, label, other)
            else:
                apart.append(other)
        return [*apart, label]

    def _met(self, label: Label, operands: list[tuple[list[int], list[Label]]], why: str) -> Label:
        for shape, labels in operands:
            full = {axis for axis in axes(label) if shape[axis] > 1}
            if full and not any(axes(other) & axes(label) for other in labels):
                label = self.fix(label, full, why)
        return label

    def classes(self, *, whole: bool = True) -> np.ndarray:
        """Numbers the sets of labels that go together: the class of each label.

        Without ``whole`` those that stand for one place, of which a whole has several.
        """
        # late: trainings load this module, and few of them cut
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        held = [*self._pairs, *(self._wholes if whole else ())]
        pairs = torch.cat([torch.empty(2, 0, dtype=torch.int64), *held], 1).numpy()
        graph = coo_array((np.ones(pairs.shape[1], bool), pairs), shape=(self.num, self.num))
        found: np.ndarray = connected_components(graph, directed=False)[1]
        return found


def _padded(shape: Sequence[int], rank: int) -> list[int]:
    return [1] * (rank - len(shape)) + list(shape)
