"""Writing files whole or not at all."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_whole(path: Path, content: bytes, *, synced: bool = True) -> None:
    """Replaces a file by new content, so that a kill or a power cut leaves the old or the new one.

    Not ``synced``, a power cut may take it, and nobody waits for the disk.
    """
    # a name of chance: processes in two containers on one disk can have the same number
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with scratch.open("wb") as opened:
            opened.write(content)
            opened.flush()
            if synced:
                os.fsync(opened.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
