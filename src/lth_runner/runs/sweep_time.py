"""How long a sweep will still take, by what its points have taken so far."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from lth_runner.runs.folder import STATUS
from lth_runner.runs.quantities import duration
from lth_runner.runs.status.liveness import moment, seconds_since
from lth_runner.runs.status.runs import run_folders
from lth_runner.runs.sweep_folder import read_owner, read_points


def sweep_line(folder: Path, outputs: Path, number: int, now: datetime) -> str | None:
    """Says how far a sweep is before its point ``number``, counted from 0, and what is left of it.

    Points that were done before this sweep began return at once, and tell nothing of the others:
    the time goes by runs that were written since. None where there is none yet.
    """
    total = len(read_points(folder))
    began = moment(read_owner(folder).get("started"))
    if began is None or not 0 < number < total:
        return None
    trained = min(_written_since(began.timestamp(), outputs), number)
    if not trained:
        return None
    left = duration(seconds_since(began, now) / trained * (total - number))
    return f"sweep    {number} of {total} points passed, about {left} left"


def _written_since(began: float, outputs: Path) -> int:
    found = 0
    for run in run_folders(outputs):
        try:
            found += (run / STATUS).stat().st_mtime >= began
        except OSError:  # a folder without a status
            continue
    return found
