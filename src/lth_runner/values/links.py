"""Folders that links lead to."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def each_once(folders: Iterable[Path]) -> list[Path]:
    """Lists folders, one that links lead to as well once, by its own name where that is there."""
    found: dict[Path, Path] = {}
    for folder in folders:
        place = folder.resolve()
        if place not in found or (found[place].is_symlink() and not folder.is_symlink()):
            found[place] = folder
    return list(found.values())
