"""Points that a sweep has described and that have no run folder yet."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from lth_runner.runs.incidental import is_incidental
from lth_runner.runs.status.liveness import SILENT_SECONDS, lives, moment, seconds_since
from lth_runner.runs.status.point import Point
from lth_runner.runs.sweep_folder import (
    read_failures,
    read_owner,
    read_points,
    sweep_folders,
)

Meaning = tuple[str, ...]
EXIT_USER = 2  # of a command that is refused


def owed_points(outputs: Path, begun: Sequence[Point], now: datetime) -> list[Point]:
    """Lists the points of sweeps without a run folder; they wait while their sweep lives."""
    known = {meaning(point.command): point for point in begun if point.command}
    recent = {
        key
        for key, point in known.items()
        if seconds_since(moment(point.status.get("updated")), now) < SILENT_SECONDS
    }
    sweeps = []
    ended: dict[Meaning, dict[str, Any]] = {}
    for folder in sorted(sweep_folders(outputs)):
        rows = read_points(folder)
        is_recent = any(meaning(row["command"]) in recent for row in rows)
        sweeps.append((_lives(folder, now, has_recent=is_recent), folder, rows))
        # the last try counts
        ended |= {meaning(row["command"]): row for row in read_failures(folder)}
    seen: set[object] = {*known, *(point.run_id for point in begun)}
    owed = []
    for alive, folder, rows in sorted(sweeps, key=lambda sweep: sweep[:2], reverse=True):
        keys = [meaning(row["command"]) for row in rows]
        names = {known[key].name for key in keys if key in known}
        for row, key in zip(rows, keys, strict=True):
            run_id = row.get("run_id")
            if key in seen or (run_id is not None and run_id in seen):
                continue
            seen |= {key} if run_id is None else {key, run_id}
            name = row.get("name") or _name(row["command"], names)
            state, reason = "waiting", None
            if key in ended:  # before it had a run folder
                state = "refused" if ended[key].get("status") == EXIT_USER else "failed"
                reason = "".join(str(ended[key].get("error", "")).splitlines()[:1])
            elif not alive:
                state, reason = "missing", f"no run folder, though sweep {folder.name} has ended"
            owed.append(Point(state, name, run_id, command=row["command"], reason=reason))
    return owed


def meaning(command: str) -> Meaning:
    """Reads what a command line asks for: its words, in any order, that change a result."""
    try:
        words = shlex.split(command)[1:]
    except ValueError:
        words = [command]
    bare = {word.lstrip("+") for word in words}
    return tuple(sorted(word for word in bare if not is_incidental(word.partition("=")[0])))


def _name(command: str, siblings: set[str]) -> str:
    """Guesses the name that a point will have."""
    given = dict(word.split("=", 1) for word in meaning(command) if "=" in word)
    if "name" in given:
        return given["name"]
    return next(iter(siblings)) if len(siblings) == 1 else given.get("experiment", "?")


def _lives(folder: Path, now: datetime, *, has_recent: bool) -> bool:
    owner = read_owner(folder)
    started = moment(owner.get("started"))
    alive = lives(owner, started)
    if alive is None:  # on another machine: its points tell, or its being new
        return bool(owner) and (has_recent or seconds_since(started, now) < SILENT_SECONDS)
    return alive
