"""A file or a folder under a name of its own, there whole and tested or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lth_runner.values.errors import UserError
from lth_runner.values.pieces import clear_pieces, create, piece


def check_target(path: str | Path, suffixes: tuple[str, ...], form: str) -> Path:
    """Returns a path that a file may be written to, a folder where there are no suffixes.

    Raises UserError where something stands there, where its folder is not there or takes no file,
    and for a name that does not say what the file is.
    """
    target = Path(path).expanduser()
    if suffixes and target.suffix not in suffixes:
        raise UserError(f"{target}: {form} is written to a file *{' or *'.join(suffixes)}")
    if os.path.lexists(target):
        raise UserError(f"{target} exists: remove it, or give another name (nothing is replaced)")
    if not target.parent.is_dir():
        raise UserError(f"{target}: there is no folder {target.parent}: make it first")
    scratch = piece(target)
    try:
        create(scratch).close()
        scratch.unlink()
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from error
    return target


@contextmanager
def finished(target: Path) -> Iterator[Path]:
    """Hands out a partial name beside the target, which is renamed when the block has ended.

    Where the block raises, nothing is left. What a killed process left, the next call removes.
    """
    clear_pieces(target.parent)
    scratch = piece(target)
    try:
        yield scratch
        for file in files_of(scratch):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
        if os.path.lexists(target):
            raise UserError(f"{target} was made meanwhile by another process: it is left as it is")
        scratch.rename(target)
    except OSError as error:
        if error.filename is not None and Path(error.filename).parent != target.parent:
            raise
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        if scratch.is_dir():
            shutil.rmtree(scratch)
        scratch.unlink(missing_ok=True)


def files_of(path: Path) -> list[Path]:
    """Lists the files of a folder; a file is its own."""
    return sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
