"""What is read in the Store: whole, damaged and set aside, or not to be read and left alone."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lth_runner.values import identity
from lth_runner.values.errors import Damaged, UserError
from lth_runner.values.files import read_regular, write_whole
from lth_runner.values.json_files import loaded

log = logging.getLogger(__name__)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Writes sealed JSON whole or not at all."""
    sealed = {**value, "seal": identity.digest(value)}
    write_whole(path, json.dumps(sealed).encode())


def read_json(path: Path) -> dict[str, Any]:
    """Reads sealed JSON; raises Damaged where the seal does not fit."""
    try:
        value = loaded(read_regular(path))
        if value.pop("seal") != identity.digest(value):
            raise Damaged(f"{path}: its contents do not fit the hash they were written with")
        return value
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise Damaged(f"{path}: not the JSON that was written ({error})") from error


def is_sealed(path: Path) -> bool:
    """Whether sealed JSON is whole."""
    try:
        read_json(path)
    except (Damaged, OSError):
        return False
    return True


def is_there(folder: Path) -> bool:
    """Whether there is an entry; raises OSError for a link to a disk that is not there."""
    try:
        folder.stat()
    except FileNotFoundError:
        if folder.is_symlink():
            raise OSError(None, "a link that leads nowhere") from None
        return False
    return True


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises UserError for what the system does not let us read: it is not called damaged."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}), so whether it is whole is not known: it is "
            f"left as it is, and nothing is trained in its place. {_cure(path, error)}"
        ) from error


def _cure(path: Path, error: OSError) -> str:
    if not isinstance(error, PermissionError):
        return "See to the disk that it is on, then give the same command again"
    owner = next((_owner(place) for place in (path, *path.parents) if _owner(place)), "its owner")
    return (
        f"Ask {owner} for 'chmod -R g+rX {path.parent}' (and for umask 002, in a Store that a "
        "group shares), or choose a Store of your own with paths.outputs=..."
    )


def _owner(path: Path) -> str | None:
    try:
        return path.owner()
    except (OSError, KeyError):  # not to be looked at, or nobody's name
        return None


def set_aside(path: Path, damage: Exception) -> None:
    """Moves a damaged file or folder out of the way, keeping it, and says so.

    Raises UserError where it cannot be moved.
    """
    store = next(p for p in path.parents if (p / "format.json").exists())
    target = store / "damaged" / f"{path.parent.name}-{path.name}-{time.time_ns()}"
    try:
        target.parent.mkdir(exist_ok=True)
        if target.parent.is_symlink():
            raise OSError(None, f"{target.parent} is a link, and leads out of the Store")
        path.rename(target)
    except FileNotFoundError:  # another process found the same damage first
        return
    except OSError as error:
        raise UserError(
            f"{damage}. It cannot be set aside ({error.strerror}): remove {path}, or ask its owner "
            "to, then give the same command again"
        ) from error
    log.warning("damaged, set aside as %s and done again: %s", target, damage)
