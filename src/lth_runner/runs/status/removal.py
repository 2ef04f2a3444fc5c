"""Removing files of a folder without ever leaving it: no link is followed, at any depth."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def files_below(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yields every file below a folder, and every link, which is not looked behind.

    A folder that is a link itself has none.
    """
    if folder.is_symlink():
        return
    for above, folders, names in os.walk(folder):
        folders.sort()
        links = [name for name in folders if Path(above, name).is_symlink()]
        for name in sorted([*names, *links]):
            with suppress(FileNotFoundError):  # gone meanwhile
                facts = Path(above, name).lstat()
                if stat.S_ISREG(facts.st_mode) or stat.S_ISLNK(facts.st_mode):
                    yield Path(above, name), facts


def folders_in(folder: Path) -> list[Path]:
    """Lists the folders in a folder; a link is none, and nor is what lies behind one."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())


def remove_below(root: Path, path: Path) -> None:
    """Removes a file, or an empty folder, from below a folder; a link goes, not what is behind it.

    What is gone already is no error. Raises OSError where a link or a file stands where a folder
    has been.
    """
    with suppress(FileNotFoundError), _reached(root, path.parent) as handle:
        facts = os.stat(path.name, dir_fd=handle, follow_symlinks=False)
        if stat.S_ISDIR(facts.st_mode):
            os.rmdir(path.name, dir_fd=handle)
        else:
            os.unlink(path.name, dir_fd=handle)


def remove_folder(root: Path, path: Path, aside: Path) -> None:
    """Removes a folder with all that is in it, by one rename first: a kill leaves no half of it.

    ``aside`` is the folder where it is on its way, made where there is none.
    """
    with suppress(FileExistsError), _reached(root, aside.parent) as handle:
        os.mkdir(aside.name, dir_fd=handle)
    doomed = f"removed-{path.parent.name}-{path.name}"
    with _reached(root, path.parent) as source, _reached(root, aside) as target:
        os.rename(path.name, doomed, src_dir_fd=source, dst_dir_fd=target)
    shutil.rmtree(aside / doomed)  # which follows no link either


@contextmanager
def _reached(root: Path, folder: Path) -> Iterator[int]:
    """Opens a folder by way of folders alone; the root itself may be what a link leads to."""
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in folder.relative_to(root).parts:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)
