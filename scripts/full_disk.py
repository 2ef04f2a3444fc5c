"""A disk that is full from its n-th operation on, as a process sees it in one folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock


class Disk:
    """Counts what needs room below a folder, and refuses it from the ``full_from``-th time on.

    That is making a file or a folder, writing, waiting for the disk, and renaming. Removing goes on
    working, as it does where a disk is full.
    """

    def __init__(self, root: Path, full_from: int) -> None:
        self.count = 0
        self._root, self._full_from = str(root), full_from
        self._patches = ExitStack()

    def __enter__(self) -> Disk:
        open_, fdopen = os.open, os.fdopen

        def opened(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            if flags & os.O_CREAT:
                self._take(path)
            return open_(path, flags, *arguments, **options)

        def written(handle: int, *arguments: Any, **options: Any) -> Any:
            return _Counted(fdopen(handle, *arguments, **options), self)

        changed = {"open": opened, "fdopen": written, "fsync": self._of_handle(os.fsync)}
        changed |= {
            name: self._of_path(getattr(os, name)) for name in ("mkdir", "rename", "replace")
        }
        for name, function in changed.items():
            self._patches.enter_context(mock.patch.object(os, name, function))
        return self

    def __exit__(self, *failure: object) -> None:
        self._patches.close()

    def _take(self, path: Any) -> None:
        if not os.fspath(path).startswith(self._root):
            return
        self.count += 1
        if self.count > self._full_from:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))

    def _of_path(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def taken(path: Any, *arguments: Any, **options: Any) -> Any:
            self._take(path)
            return function(path, *arguments, **options)

        return taken

    def _of_handle(self, function: Callable[[int], None]) -> Callable[[int], None]:
        def taken(handle: int) -> None:
            self.take_handle(handle)
            function(handle)

        return taken

    def take_handle(self, handle: int) -> None:
        """Counts an operation on an open file."""
        self._take(Path(f"/proc/self/fd/{handle}").readlink())


class _Counted:
    """An open file whose writes are counted."""

    def __init__(self, opened: Any, disk: Disk) -> None:
        self._opened, self._disk = opened, disk

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)

    def __enter__(self) -> _Counted:
        return self

    def __exit__(self, *failure: object) -> None:
        self._opened.close()

    def write(self, content: Any) -> int:
        """Writes where there is room."""
        if self._opened.writable():
            self._disk.take_handle(self._opened.fileno())
        return int(self._opened.write(content))
