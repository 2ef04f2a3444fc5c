"""Writing files whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole_file(path: Path, *, synced: bool = True) -> Iterator[BinaryIO]:
    """Opens a file to be written anew, so that a kill or a power cut leaves the old or the new one.

    Where the block raises, the old one stays. Not ``synced``, a power cut may take the new one,
    and nobody waits for the disk.
    """
    # a name of chance: processes in two containers on one disk can have the same number
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with scratch.open("wb") as opened:
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
