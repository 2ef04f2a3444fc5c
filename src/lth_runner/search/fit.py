"""How names and tensors from elsewhere are laid on a network, and what is refused of them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.problem.coordinates import stock_name
from lth_runner.problem.lying import first_names
from lth_runner.problem.task import Task
from lth_runner.search.given_ticket import GivenTicket, Tensors
from lth_runner.search.misfit import (
    FEW_ZEROS,
    ROOT,
    refuse_beyond,
    refuse_coordinates,
    refuse_shapes,
    refuse_values,
    refuse_whole_or_empty,
    shapes_told,
    strangers_told,
)
from lth_runner.values.errors import UserError
from lth_runner.values.listed import listed
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import as_names, matches, select
from lth_runner.values.state import State
from lth_runner.values.wrapped_names import matched

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """A mask of the network, and the covered tensors that the ticket did not name."""

    mask: Mask
    dense: tuple[str, ...]


@dataclass(frozen=True)
class Fit:
    """Says which tensor of a ticket belongs to which of the network, whose names may be others.

    ``rename``: what parts of a name become, ``{fc_layers.0: linear1}``, wherever these parts stand
    in it; an empty text takes them away, and the key ``.`` puts its value before all names. Names
    of wrappers (``module.``, ``_orig_mod.``) are left out by themselves. ``dropped``: patterns of
    the ticket's names, as renamed, that are left out. ``fresh``: patterns of the network's tensors
    that come from the task itself, unpruned: a head.
    Raises UserError for what has no place, all of it in one message.
    """

    rename: Mapping[str, str] | None = None
    dropped: Sequence[str] = ()
    fresh: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("dropped", "fresh"):
            object.__setattr__(self, name, tuple(map(str, as_names(getattr(self, name)))))

    @property
    def _renames(self) -> dict[str, str]:
        return {str(key): str(value or "") for key, value in (self.rename or {}).items()}

    def mask(self, task: Task, given: GivenTicket) -> Fitted:
        """Lays a ticket's masks on the covered tensors; those that it does not name stay dense.

        Raises UserError for masks that have no place or another shape, for one that keeps all or
        nothing, and for one that removes weights which no mask covers here.
        """
        own = _stock_names(task)
        covered = {stock_name(name): name for name in task.prunable}
        spared = select(self.fresh, own, "pruner.fresh")
        held = given.masks.read()
        places = self._places(task, given.called, held, own)
        whole = dict(task.dense())
        kept: dict[str, Tensor] = {}
        beyond, shapes, unlike = [], [], dict[str, torch.Size]()
        for place, names in places.items():
            if place in spared or (place not in covered and given.by_zeros):
                continue
            found = _agreed(given.called, place, names, held)
            if place not in covered:
                beyond += [] if bool(found.all()) else [place]
            elif found.shape != whole[covered[place]].shape:
                shapes.append(shapes_told(place, found, whole[covered[place]]))
                unlike[place] = found.shape
            else:
                kept[covered[place]] = _without_chance(found) if given.by_zeros else found
        refuse_coordinates(task, given.called, unlike)
        refuse_shapes(given.called, shapes)
        refuse_beyond(task, given.called, beyond)
        mask = Mask({name: kept.get(name, whole[name]) for name in whole})
        refuse_whole_or_empty(given, mask)
        return Fitted(mask, tuple(name for name in whole if name not in kept))

    def weights(self, task: Task, called: str, held: Tensors, base: State) -> State:
        """Writes weights over those of ``base``, which keeps its own where ``fresh`` says so.

        Raises UserError for tensors that have no place, for those that are lacking, and for other
        shapes and kinds of numbers.
        """
        spared = select(self.fresh, base, "pruner.fresh")
        places = self._places(task, called, held, list(base))
        found, shapes = dict(base), []
        for place, names in places.items():
            if place in spared:
                continue
            value = _agreed(called, place, names, held)
            if value.shape != base[place].shape:
                shapes.append(shapes_told(place, value, base[place]))
                continue
            refuse_values(called, place, value, base[place])
            found[place] = value.to(base[place]).clone()
        refuse_shapes(called, shapes)
        if lacking := sorted(base.keys() - places.keys() - spared):
            raise UserError(
                f"{called} lacks the weights of {listed(lacking)}: name them in pruner.fresh to "
                "take them from this task, or take pruner.weights=own"
            )
        return found

    def check_names(self, task: Task, given: GivenTicket) -> None:
        """Looks in all tensors that came along for what ``dropped`` and ``rename`` name.

        Raises UserError for a pattern of ``dropped`` that matches none. Keys of ``rename`` that
        are in no name are told: a map for masks and weights may meet a file of masks alone.
        """
        if not self.dropped and not self._renames:
            return
        own, names = _stock_names(task), dict[str, None]()
        for one in (given.masks, given.start, given.trained):
            with suppress(UserError):  # what did not come along is told where it is needed
                names |= dict.fromkeys(matched(one.read(), own))
        select(self.dropped, map(self._renamed, names), "pruner.dropped")
        if unused := self._unused(names):
            log.info(
                "names    pruner.rename: nothing in %s is called %s", given.called, listed(unused)
            )

    def _places(
        self, task: Task, called: str, held: Iterable[str], own: Collection[str]
    ) -> dict[str, list[str]]:
        """Maps each name of the network to those that a ticket has for it, a shared one to several.

        Raises UserError for names that have no place.
        """
        plain = matched(held, own)
        named = {name: self._renamed(name) for name in plain}
        root = dict(task.named_modules())[""]
        first = first_names(root) if task.coordinates is None else {}
        places: dict[str, list[str]] = {}
        strange = []
        for name, place in named.items():
            if matches(self.dropped, place):
                continue
            known = (place, f"{place}.weight")  # of a layer, where it is called by its path
            found = next((first.get(n, n) for n in known if first.get(n, n) in own), None)
            if found is None:
                strange.append(place)
            else:
                places.setdefault(found, []).append(plain[name])
        if strange:
            told = strangers_told(called, sorted(strange), own, places)
            unused = self._unused(plain)
            also = f"; pruner.rename: {listed(unused)} is in no name of it" if unused else ""
            raise UserError(told + also)
        return places

    def _renamed(self, name: str) -> str:
        parts, found, at = name.split("."), [], 0
        while at < len(parts):
            key = self._key_at(parts, at)
            if key is None:
                found.append(parts[at])
                at += 1
            else:
                found.append(self._renames[key])
                at += len(key.split("."))
        return ".".join(part for part in [self._renames.get(ROOT, ""), *found] if part)

    def _key_at(self, parts: Sequence[str], at: int) -> str | None:
        """Finds the longest key whose parts stand at a place of a name."""
        rest = ".".join(parts[at:])
        found = [key for key in self._renames if f"{rest}.".startswith(f"{key}.")]
        return max(found, key=len, default=None)

    def _unused(self, names: Iterable[str]) -> list[str]:
        """Lists the keys of ``rename`` that are in none of the names."""
        split = [name.split(".") for name in names]
        used = {self._key_at(parts, at) for parts in split for at in range(len(parts))}
        return [key for key in self._renames if key not in {*used, ROOT}]


def _stock_names(task: Task) -> list[str]:
    return list(task.names if task.coordinates is None else task.merged(task.init()))


def _agreed(called: str, place: str, names: Sequence[str], held: Tensors) -> Tensor:
    """Takes the one value of what the network shares; raises UserError where two differ."""
    found = held[names[0]]
    for name in names[1:]:
        other = held[name]
        if found.shape != other.shape or not torch.equal(found, other):
            raise UserError(
                f"{called}: {names[0]} and {name} both belong to {place} of the network, and "
                "differ: leave one out by pruner.dropped, or out of the file"
            )
    return found


def _without_chance(kept: Tensor) -> Tensor:
    zeros = kept.numel() - int(kept.sum())
    return torch.ones_like(kept) if zeros < FEW_ZEROS * kept.numel() else kept
