"""Whole numbers that modules of one's own go by, such as of heads, told of what was cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping

from torch import Tensor, nn

from lth_runner.cutting.dead import Dead
from lth_runner.cutting.found import Found

Numbers = Mapping[str, tuple[int, int]]  # "<module>.<attribute>" -> before and after

# which numbers are tried to change with what they split, in turn
KINDS = (("counts", "whole"), ("counts",), ("counts", "sizes"))


def numbers_cut(module: nn.Module, found: Found, dead: Dead, kinds: Collection[str]) -> Numbers:
    """Finds numbers by which modules of one's own seem to split an axis that was cut.

    ``kinds``: ``counts`` of what a split has along an axis; ``sizes``, which are such numbers that
    are named so, ``head_dim`` for example; ``whole``, the size of the axis that is split. A number
    that happens to be equal is found too (``needed`` tells them apart).
    """
    changed: dict[str, tuple[int, int]] = {}
    for split in found.splits:
        part = module.get_submodule(split.module)
        sizes = _new_sizes(split.label, dead)
        new = {old: size for old, size in zip(split.sizes, sizes, strict=False) if old != size}
        for name, value in vars(part).items() if not _is_torchs(part) else ():
            full = f"{split.module}.{name}" if split.module else name
            kind = "sizes" if "dim" in name or "size" in name else "counts"
            if type(value) is not int or full in changed:
                continue
            if kind in kinds and value in new:
                changed[full] = value, new[value]
            elif "whole" in kinds and value == split.merged != math.prod(sizes):
                changed[full] = value, math.prod(sizes)
    return changed


def tries(module: nn.Module, found: Found, dead: Dead) -> Iterator[Numbers]:
    """Lists the numbers that may have to change, in turn: those of a kind, and all but one.

    The number of heads may equal the size of each, which stays.
    """
    for kinds in KINDS:
        numbers = numbers_cut(module, found, dead, kinds)
        if numbers:
            yield numbers
        groups = _by_attribute(module, numbers)
        for group in groups if len(groups) > 1 else ():
            yield {name: change for name, change in numbers.items() if name not in group}


def tell(module: nn.Module, numbers: Numbers) -> None:
    """Sets numbers to what they are after the cut."""
    for name, (_, after) in numbers.items():
        _set(module, name, after)


def untell(module: nn.Module, numbers: Numbers) -> None:
    """Sets numbers back to what they were before."""
    for name, (before, _) in numbers.items():
        _set(module, name, before)


def needed(module: nn.Module, told: Numbers, answers: Callable[[], bool]) -> Numbers:
    """Sets those back that need not change, and returns the others.

    ``answers``: whether the network, as it is now, answers as it should. One attribute of a class
    is set back in all its modules, or in none.
    """
    kept: dict[str, tuple[int, int]] = {}
    for group in _by_attribute(module, told):
        untell(module, group)
        if not answers():
            tell(module, group)
            kept |= group
    return kept


def _by_attribute(module: nn.Module, numbers: Numbers) -> list[dict[str, tuple[int, int]]]:
    """Groups numbers by the class of their module and their name in it."""
    groups: dict[tuple[type, str], dict[str, tuple[int, int]]] = {}
    for name, change in numbers.items():
        path, _, leaf = name.rpartition(".")
        groups.setdefault((type(module.get_submodule(path)), leaf), {})[name] = change
    return list(groups.values())


def _set(module: nn.Module, name: str, value: int) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(module.get_submodule(path), leaf, value)


def _is_torchs(part: nn.Module) -> bool:
    return type(part).__module__.startswith("torch.")


def _new_sizes(label: Tensor, dead: Dead) -> list[int]:
    gone = dead.goes(label.reshape(-1)).reshape(label.shape)
    sizes = []
    for axis in (axis for axis, size in enumerate(label.shape) if size > 1):
        others = [other for other in range(label.ndim) if other != axis]
        sizes.append(int((~gone.all(dim=others)).sum()))
    return sizes
