"""Removing files of a folder without ever leaving it."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def remove_below(root: Path, path: Path) -> None:
    """Removes a file, or an empty folder, from below a folder, on the way through no link.

    A link itself is removed, never what it points to. What is gone already is no error. Raises
    OSError where a link or a file stands where a folder has been.
    """
    *folders, name = path.relative_to(root).parts
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folders:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        if _is_folder(name, handle):
            os.rmdir(name, dir_fd=handle)
        else:
            os.unlink(name, dir_fd=handle)
    except FileNotFoundError:
        return
    finally:
        os.close(handle)


def _is_folder(name: str, handle: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=handle, follow_symlinks=False).st_mode)
