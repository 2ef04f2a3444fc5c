"""Files that are being written: beside their final place, under names that no two writers share.

A name says which process writes it, so that what a killed one left is told by its being gone.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from lth_runner.values.processes import is_alive, place

OLD_SECONDS = 24 * 3600.0  # after which a piece of a process that cannot be looked at is nobody's
# a piece of earlier versions has no place and no process in its name
_PIECE = re.compile(r"\..+\.(?:(?P<place>[0-9a-f]{8})-(?P<pid>\d+)-)?[0-9a-f]{8}\.part", re.DOTALL)


def piece(path: Path) -> Path:
    """Names a piece of a file: beside it, by chance, and by the process that is to write it."""
    return path.with_name(f".{path.name}.{_place()}-{os.getpid()}-{secrets.token_hex(4)}.part")


def create(path: Path) -> BinaryIO:
    """Opens a file that is not there yet, under the caller's umask, and never through a link.

    Raises FileExistsError where anything has that name.
    """
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY  # which follows no link
    return os.fdopen(os.open(path, flags, 0o666), "wb")


def is_piece(name: str) -> bool:
    """Whether a file of that name is a piece."""
    return _PIECE.fullmatch(name) is not None


def clear_pieces(folder: Path) -> None:
    """Removes the pieces in a folder whose writers are gone; what cannot be removed stays."""
    with suppress(OSError), os.scandir(folder) as found:
        for entry in found:
            named = _PIECE.fullmatch(entry.name)
            if named is not None and _is_nobodys(entry, named):
                with suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)  # which follows no link either
                    else:
                        os.unlink(entry.path)  # noqa: PTH108 (of an os.DirEntry)


def _is_nobodys(entry: os.DirEntry[str], named: re.Match[str]) -> bool:
    if named["place"] == _place():
        return not is_alive(int(named["pid"]))
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime > OLD_SECONDS
    except OSError:  # gone meanwhile
        return False


def _place() -> str:
    return hashlib.sha256(place().encode()).hexdigest()[:8]
