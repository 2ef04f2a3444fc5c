"""Writing files whole or not at all, and reading what is a file and nothing else."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lth_runner.values.pieces import create, piece

KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@contextmanager
def whole_file(path: Path, *, synced: bool = True) -> Iterator[BinaryIO]:
    """Opens a file to be written anew, so that a kill or a power cut leaves the old or the new one.

    Where the block raises, the old one stays. Without ``synced`` nothing waits for the disk, and a
    power cut may lose the new one. A link in the file's place is replaced, not followed.
    """
    scratch = piece(path)
    try:
        with create(scratch) as opened:
            yield opened
            opened.flush()
            if synced:
                os.fsync(opened.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes, *, synced: bool = True) -> None:
    """Replaces a file by new content, whole or not at all."""
    with whole_file(path, synced=synced) as opened:
        opened.write(content)


def as_umask_says(path: Path) -> None:
    """Gives a file the mode of a new one: some libraries write files for their user alone."""
    new = piece(path)
    with create(new) as opened:
        mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
    new.unlink()
    path.chmod(mode)


def append(path: Path, content: bytes, *, synced: bool = False) -> None:
    """Adds to the end of a file, made where there is none; raises OSError where a link is there."""
    flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o666), "ab") as opened:
        opened.write(content)
        opened.flush()
        if synced:
            os.fsync(opened.fileno())


def regular_hash(path: Path) -> str:
    """Hashes what a file holds (SHA-256), block by block.

    Raises OSError for what is no file, and never waits.
    """
    digest = hashlib.sha256()
    with open_regular(path) as opened:
        while block := opened.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_regular(path: Path, most: int | None = None) -> bytes:
    """Reads a file as ``open_regular`` opens it."""
    with open_regular(path, most) as opened:
        return opened.readall()


def open_regular(path: Path, most: int | None = None) -> io.FileIO:
    """Opens a file to be read, and never waits for one: a named pipe would wait for a writer.

    Raises OSError for what is no file, and for one of more than ``most`` bytes.
    """
    opened = io.FileIO(path, opener=_without_waiting)
    facts = os.fstat(opened.fileno())
    if (found := not_a_file(facts.st_mode)) is not None:
        opened.close()
        raise OSError(errno.EINVAL, f"it is {found}", str(path))
    if most is not None and facts.st_size > most:
        opened.close()
        reason = f"it has {facts.st_size:,} bytes, more than {most:,}"
        raise OSError(errno.EFBIG, reason, str(path))
    return opened


def not_a_file(mode: int) -> str | None:
    """Says what stands under a name, by its ``st_mode``; None where it is a file."""
    if stat.S_ISREG(mode):
        return None
    return next((named for is_kind, named in KINDS if is_kind(mode)), "no file")


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
