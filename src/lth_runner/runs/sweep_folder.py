"""The files of a sweep's folder, which hold its points, who runs it, and which points failed.

They are written before the first point starts, so that none can go missing, and failures as they
come: a point may fail before it has a run folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lth_runner.runs.folder import append_rows, replace_rows, write_facts
from lth_runner.values.json_files import objects_from_end, read_object

POINTS = "points.jsonl"
OWNER = "sweep.json"
FAILURES = "failures.jsonl"
LEASE = "lease"  # says which process the folder belongs to while its sweep is under way


def sweep_folders(outputs: Path) -> Iterator[Path]:
    """Yields the folder of every sweep that wrote its points down."""
    for path in outputs.glob(f"sweeps/*/{POINTS}"):
        yield path.parent


def write_points(folder: Path, commands: Sequence[str], owner: Mapping[str, Any]) -> None:
    """Writes a sweep down: the command of each point, and the process that runs them.

    A point's name and run id are known only once it has started. Failures of an earlier sweep in
    the same folder are not this one's.
    """
    (folder / FAILURES).unlink(missing_ok=True)
    replace_points(folder, commands)
    write_facts(folder / OWNER, owner)


def replace_points(folder: Path, commands: Sequence[str]) -> None:
    """Writes the command of each point anew: those of a study become known one after another."""
    points = [{"command": command, "name": None, "run_id": None} for command in commands]
    replace_rows(folder / POINTS, points)


def read_points(folder: Path) -> list[dict[str, Any]]:
    """Returns the points of a sweep that have a command, in their order."""
    return _with_command(folder / POINTS)


def read_owner(folder: Path) -> dict[str, Any]:
    """Returns who runs a sweep: ``pid``, ``host``, ``started``, ``command``; maybe nothing."""
    return read_object(folder / OWNER) or {}


def add_failure(folder: Path, command: str, error: str, status: int) -> None:
    """Notes that a point ended with an exit ``status`` other than 0, and what was told."""
    append_rows(folder / FAILURES, [{"command": command, "error": error, "status": status}])


def read_failures(folder: Path) -> list[dict[str, Any]]:
    """Returns what went wrong in a sweep, in order."""
    return _with_command(folder / FAILURES)


def _with_command(path: Path) -> list[dict[str, Any]]:
    rows = [row for row in objects_from_end(path) if _is_point(row)]
    return rows[::-1]


def _is_point(row: Mapping[str, Any]) -> bool:
    named = [row.get(field) for field in ("name", "run_id")]
    return isinstance(row.get("command"), str) and all(isinstance(n, str | None) for n in named)
