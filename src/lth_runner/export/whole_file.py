"""A file or a folder under a name of its own, there whole and tested or not at all."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from safetensors import SafetensorError

from lth_runner.values.errors import UserError
from lth_runner.values.home import from_home
from lth_runner.values.pieces import clear_pieces, create, piece


def check_target(path: str | Path, suffixes: tuple[str, ...], form: str) -> Path:
    """Returns a path that a file may be written to, a folder where there are no suffixes.

    Raises UserError where something stands there, where its folder is not there or takes no file,
    and for a name that does not say what the file is.
    """
    target = from_home(path)
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
    except OSError as error:  # of the disk that is written to, or of what is read for it
        raise UserError(f"{target} cannot be written: {_told(error, scratch)}") from error
    except SafetensorError as error:  # of the library's own writer, which folders of models take
        raise UserError(f"{target} cannot be written: {error}") from error
    finally:
        if scratch.is_dir():
            shutil.rmtree(scratch)
        scratch.unlink(missing_ok=True)


def _told(error: OSError, scratch: Path) -> str:
    """Says what the system refuses, and of which file where that is not the one in the making."""
    why = error.strerror or str(error)
    if not isinstance(error.filename, str) or Path(error.filename).is_relative_to(scratch):
        return why
    return f"{error.filename}: {why}"


class _Written(io.RawIOBase):
    """A file to write to that keeps a failure of the disk until somebody asks."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError as error:  # which wrote what was waiting
            self.failure = self.failure or error
            return offset

    def write(self, content: Any) -> int:
        if self.failure is None:
            try:
                self._file.write(content)
            except OSError as error:
                self.failure = error
        return memoryview(content).nbytes


@contextmanager
def written(path: Path) -> Iterator[Any]:
    """Opens a new file for torch's writers of archives, which a full disk must not reach.

    They raise something else then, or end the process. Raises OSError behind them.
    """
    with path.open("xb") as opened:
        file = _Written(opened)
        yield file
        if file.failure is not None:
            raise file.failure


def files_of(path: Path) -> list[Path]:
    """Lists the files of a folder; a file is its own."""
    return sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
