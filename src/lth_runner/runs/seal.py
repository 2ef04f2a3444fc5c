"""What the files of a run held when they were written, which its ``status.json`` vouches for.

``files`` there maps a name to the bytes and the SHA-256 of what was written. Files of rows grow: of
a run under way, what lies behind these bytes has been added since and is vouched for by nobody.
"""

from __future__ import annotations

import hashlib
import io
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lth_runner.runs.folder import (
    CONFIG,
    ENDED,
    ENVIRONMENT,
    METRICS,
    ROUNDS,
    SAMPLES,
    TICKETS,
    Row,
    lines,
    read_rounds,
    read_status,
)
from lth_runner.values.errors import UserError
from lth_runner.values.files import append, open_regular, write_whole
from lth_runner.values.json_files import objects_in

FILES = "files"
GROWING = (ROUNDS, METRICS, SAMPLES)


@dataclass(frozen=True)
class Seal:
    """The number of bytes that were written to a file, and their hash."""

    num_bytes: int
    sha256: str

    @classmethod
    def of(cls, path: Path) -> Seal:
        """Seals a file as it is."""
        with path.open("rb") as opened:
            num_bytes, digest = _read(opened, sys.maxsize)
        return cls(num_bytes, digest)

    @property
    def facts(self) -> dict[str, Any]:
        """The seal as JSON has it."""
        return {"bytes": self.num_bytes, "sha256": self.sha256}

    def fits(self, path: Path, *, may_have_grown: bool) -> bool:
        """Whether a file holds what was written to it, and nothing more unless it may have grown.

        Raises UserError where it cannot be read.
        """
        try:
            with io.BufferedReader(open_regular(path)) as opened:
                found = Seal(*_read(opened, self.num_bytes))
                return found == self and (may_have_grown or not opened.read(1))
        except FileNotFoundError:
            return False
        except OSError as error:
            raise UserError(
                f"{path} cannot be read: {error.strerror}. Mend that, or remove the file: the same "
                "command writes it again from the Store"
            ) from error


def _read(opened: BinaryIO, most: int) -> tuple[int, str]:
    num_bytes, digest = 0, hashlib.sha256()
    while block := opened.read(min(1 << 20, most - num_bytes)):
        num_bytes += len(block)
        digest.update(block)
    return num_bytes, digest.hexdigest()


class GrowingRows:
    """A file of rows that one process writes, with the seal of what it holds so far."""

    def __init__(self, path: Path, rows: Iterable[Row]) -> None:
        content = lines(rows).encode()
        write_whole(path, content)
        self._path, self._num_bytes, self._digest = path, len(content), hashlib.sha256(content)

    def append(self, rows: Iterable[Row]) -> None:
        """Adds rows at the end of the file, each on a line."""
        content = lines(rows).encode()
        append(self._path, content)
        self._num_bytes += len(content)
        self._digest.update(content)

    def synced(self) -> Seal:
        """Waits until the rows are on the disk; returns the seal of them all."""
        append(self._path, b"", synced=True)
        return Seal(self._num_bytes, self._digest.hexdigest())


def seals(status: Mapping[str, Any]) -> dict[str, Seal] | None:
    """Returns what a status vouches for, None where it is one of a version that did not."""
    found = status.get(FILES)
    if not isinstance(found, Mapping):
        return None
    return {name: Seal(facts["bytes"], facts["sha256"]) for name, facts in found.items()}


def damaged(folder: Path, status: Mapping[str, Any]) -> list[str]:
    """Lists the files of a run that are missing or not what was written.

    Raises UserError where one cannot be read.
    """
    vouched = seals(status)
    if vouched is None:
        return _lacking(folder, status)
    is_done = status.get("state") in ENDED
    return [
        name
        for name, seal in vouched.items()
        if not seal.fits(folder / name, may_have_grown=name in GROWING and not is_done)
    ]


def vouched_rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """Returns the rows of a file of a run that its status vouches for, none where they changed."""
    seal = (seals(read_status(folder)) or {}).get(name)
    if seal is None or not seal.fits(folder / name, may_have_grown=True):
        return []
    return objects_in((folder / name).read_bytes()[: seal.num_bytes])


def _lacking(folder: Path, status: Mapping[str, Any]) -> list[str]:
    """Lists what a finished run of an earlier version evidently lacks."""
    if status.get("state") not in ENDED:
        return []
    rows = read_rounds(folder)
    num_tickets = sum(row["arm"] == "ticket" for row in rows)
    steps = status.get("steps")
    asked = steps.get("asked") if isinstance(steps, Mapping) else None
    lacking = [] if sum(row["steps"] for row in rows) == asked else [ROUNDS]
    if not len(list((folder / TICKETS).glob("*.safetensors"))) >= num_tickets > 0:
        lacking.append(TICKETS)
    return lacking + [name for name in (CONFIG, ENVIRONMENT) if not (folder / name).exists()]
