"""Which slots can go: those that nobody hears, and those that send a constant that can move."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lth_runner.cutting.found import Found, Product


@dataclass(frozen=True)
class Dead:
    """The classes of labels that go, and why others stay although they could go."""

    classes: np.ndarray  # label -> class
    gone: np.ndarray  # class -> whether it goes
    why: dict[int, str]
    carriers: dict[int, int]  # product -> the input that sends what those that go have sent

    def goes(self, slots: Tensor) -> Tensor:
        """Says for each label whether it goes."""
        return torch.from_numpy(self.gone[self.classes[slots.numpy()]])


def find_dead(found: Found, spared: Collection[int] = ()) -> Dead:
    """Finds the largest set of classes that can go together, ``spared`` ones not among them.

    It begins with all that may go, and takes back what some output that stays hears, until
    nothing changes; then what would leave a tensor that is no rectangle, a layer without a unit
    or groups of unequal sizes, and so on.
    """
    return _Search(found, spared).result()


def producers(found: Found) -> Iterator[tuple[str, Tensor]]:
    """Names the layers that have weights for their outputs, each with its outputs' labels."""
    for product in found.products:
        yield product.layer, product.outputs


class _Search:
    def __init__(self, found: Found, spared: Collection[int]) -> None:
        self._found, self._classes = found, found.ties.classes()
        self._gone = np.ones(int(self._classes.max()) + 1, bool)
        self._gone[self._classes[0]] = False  # what has no slot
        self._why: dict[int, str] = {}
        self._gone[list(spared)] = False
        self._loud = self._heard_by()
        self._shared = {name for name, num in self._targets().items() if num > 1}

    def _targets(self) -> Counter[str]:
        """Counts how often each bias is used: a constant moves into one that is used once."""
        found: Counter[str] = Counter()
        for product in self._found.products:
            if product.bias is not None:
                found[product.bias] += 1
        for name, num in self._found.uses.items():
            found[name] = max(found[name], num)
        return found

    def _heard_by(self) -> np.ndarray:
        """Counts how many outputs hear each class.

        A class that stays keeps all that it hears: of dead ones those heard most are to stay.
        """
        counts = np.zeros(len(self._gone), np.int64)
        for product in self._found.products:
            open_ = product.nonzero & ~product.movable
            np.add.at(counts, self._of(product.inputs), open_.sum(0).numpy())
        return counts

    def _of(self, slots: Tensor) -> np.ndarray:
        found: np.ndarray = self._classes[slots.reshape(-1).numpy()]
        return found

    def result(self) -> Dead:
        for reason in self._found.ties.heard:
            self._gone[self._of(reason.varying)] = False
        self._spread(lambda product: ~product.varies)
        dead = self._gone.copy()  # were all constants free to move
        for reason in self._found.ties.heard:
            self._gone[self._of(reason.slots)] = False
        self._spread(self._movable)
        for reason in self._found.ties.placed:
            self._keep(self._of(reason.slots), reason.why)
        while True:
            self._spread(self._movable)
            kept = [self._fill_holes(), self._even_halves(), self._even_groups(),
                    self._leave_wider(), self._leave_one()]  # fmt: skip
            if not any(kept) and not self._keep_a_carrier():
                break
        for reason in self._found.ties.notes:
            for each in np.unique(self._of(reason.slots)):
                if not self._gone[each] and (dead[each] or reason.alone):
                    self._why.setdefault(int(each), reason.why)
        carriers = {}
        for number, _ in self._carrying():
            product = self._found.products[number]
            stays = torch.from_numpy(~self._gone[self._of(product.inputs)]) & self._carried(product)
            carriers[number] = int((product.values.abs() * stays).argmax())
        return Dead(self._classes, self._gone, self._why, carriers)

    def _keep(self, classes: Iterable[int], why: str) -> bool:
        """Takes classes back; returns whether one of them was to go."""
        found = False
        for each in np.unique(np.fromiter(classes, int)):
            if self._gone[each]:
                self._gone[each], found = False, True
                self._why[int(each)] = why
        return found

    def _spread(self, movable: Callable[[Product], Tensor]) -> None:
        """Takes back what an output that stays hears, until nothing changes."""
        changed = True
        while changed:
            changed = False
            for product in reversed(self._found.products):
                heard = self._heard(product, movable(product))
                if self._gone[heard].any():
                    self._gone[heard], changed = False, True

    def _movable(self, product: Product) -> Tensor:
        movable = product.movable | self._carried(product)
        if product.bias in self._shared:
            movable[product.constants] = False
        return movable

    def _heard(self, product: Product, movable: Tensor) -> np.ndarray:
        stays = torch.from_numpy(~self._gone[self._of(product.outputs)])
        open_ = torch.from_numpy(self._gone[self._of(product.inputs)]) & ~movable
        if not bool(open_.any()):
            return np.empty(0, int)
        heard = open_ & (product.nonzero & stays[:, None]).any(0)
        return self._of(product.inputs[heard])

    def _carried(self, product: Product) -> Tensor:
        alone = product.weight is not None and self._found.uses[product.weight] == 1
        return product.carried if alone else torch.zeros_like(product.carried)

    def _carrying(self) -> Iterator[tuple[int, np.ndarray]]:
        """Goes through the products that need a carrier, each with the classes that could be."""
        for number, product in enumerate(self._found.products):
            carried = self._carried(product)
            goes = carried & torch.from_numpy(self._gone[self._of(product.inputs)])
            if bool(goes.any()):
                stays = torch.from_numpy(~self._gone[self._of(product.outputs)])
                if bool((product.nonzero[stays][:, goes]).any()):
                    yield number, np.unique(self._of(product.inputs[carried]))

    def _keep_a_carrier(self) -> bool:
        """Keeps the constant that serves most of the products that need one and have none."""
        votes: Counter[int] = Counter()
        for _, classes in self._carrying():
            if self._gone[classes].all():
                votes.update(int(each) for each in classes)
        if not votes:
            return False
        most = max(votes, key=lambda each: (votes[each], -each))
        why = "its constant fits no bias, so it sends this and those of all that went"
        return self._keep([most], why)

    def _fill_holes(self) -> bool:
        """Lets rows and columns go as a whole, where labels vary along several axes."""
        found = False
        for split in self._found.splits:
            label = split.label
            gone = torch.from_numpy(self._gone[self._of(label)]).reshape(label.shape)
            covered = torch.zeros_like(gone)
            for axis, size in enumerate(label.shape):
                if size > 1:
                    others = [other for other in range(label.ndim) if other != axis]
                    covered = covered | gone.all(dim=others, keepdim=True)
            holes = label[gone & ~covered]
            where = split.module or "the network"
            found |= self._keep(self._of(holes), f"{where} sees them as a rectangle, left whole")
        return found

    def _even_halves(self) -> bool:
        found = False
        for where, parts in self._found.halves:
            why = f"{where} needs parts of equal size"
            found |= self._keep(self._excess(parts), why)
        return found

    def _excess(self, parts: Iterable[Tensor]) -> list[int]:
        """Finds classes beyond the number that every part can lose: those heard most."""
        lost = [
            sorted(
                (each for each in self._of(part) if self._gone[each]), key=self._loud.__getitem__
            )
            for part in parts
        ]
        fewest = min(len(each) for each in lost)
        return [int(each) for part in lost for each in part[fewest:]]

    def _leave_wider(self) -> bool:
        """Keeps more units of a layer than it projects them to."""
        found = False
        for where, units, sent in self._found.wider:
            gone = [int(each) for each in self._of(units) if self._gone[each]]
            most = len(units) - 1 - int((~self._gone[self._of(sent)]).sum())
            why = f"{where} needs more units than it projects them to"
            found |= self._keep(gone[max(0, most) :], why)
        return found

    def _even_groups(self) -> bool:
        """Lets whole groups go, and of those that stay equal numbers."""
        found = False
        for grouped in self._found.grouped.values():
            why = f"{grouped.layer} needs groups of equal size"
            inputs, outputs = list(grouped.inputs), list(grouped.outputs)
            pairs = zip(inputs, outputs, strict=True)
            whole = [self._all_gone(ins) and self._all_gone(outs) for ins, outs in pairs]
            for rows in (inputs, outputs):
                stay = [row for row, goes in zip(rows, whole, strict=True) if not goes]
                for row in stay:  # a group that stays has one at least
                    if self._all_gone(row):
                        found |= self._keep([self._of(row)[0]], why)
                if stay:
                    found |= self._keep(self._excess(stay), why)
        return found

    def _all_gone(self, slots: Tensor) -> bool:
        return bool(self._gone[self._of(slots)].all())

    def _leave_one(self) -> bool:
        """Keeps one of the slots of each axis."""
        found = False
        own = [slots for axes in self._found.axes.values() for slots in axes]
        for slots in [*own, *(each.inputs for each in self._found.grouped.values())]:
            if slots is not None and self._all_gone(slots):
                found |= self._keep([self._of(slots)[0]], "a layer keeps one at least")
        return found
