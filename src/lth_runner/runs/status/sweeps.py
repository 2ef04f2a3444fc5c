"""Points that a sweep has described and that have no run folder yet."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from lth_runner.runs.status.files import read_json, read_lines
from lth_runner.runs.status.living import SILENT_SECONDS, lives, moment, seconds_since
from lth_runner.runs.status.point import Point

Meaning = tuple[str, ...]
EXIT_USER = 2  # of a command that is refused
NO_MATTER = (
    *("paths.", "record.", "report.", "probe", "threads=", "hydra.", "hydra/"),
    *("train.snapshots=", "train.checkpoint_minutes="),
)  # words that change no run's identity begin so


def owed_points(outputs: Path, begun: Sequence[Point], now: datetime) -> list[Point]:
    """The points of sweeps without a run folder: they wait while a sweep that names them lives."""
    known = {meaning(point.command): point for point in begun if point.command}
    recent = {
        key
        for key, point in known.items()
        if seconds_since(moment(point.status.get("updated")), now) < SILENT_SECONDS
    }
    sweeps = []
    for path in outputs.glob("sweeps/*/points.jsonl"):
        rows = [row for row in read_lines(path) if isinstance(row.get("command"), str)]
        is_recent = any(meaning(row["command"]) in recent for row in rows)
        sweeps.append((_lives(path.parent, now, has_recent=is_recent), path.parent, rows))
    ended = {
        meaning(row["command"]): row
        for path in sorted(outputs.glob("sweeps/*/failures.jsonl"))
        for row in reversed(list(read_lines(path)))  # the last try counts
        if isinstance(row.get("command"), str)
    }
    seen: set[object] = {*known, *(point.run_id for point in begun)}
    owed = []
    for alive, folder, rows in sorted(sweeps, key=lambda sweep: sweep[:2], reverse=True):
        keys = [meaning(row["command"]) for row in rows]
        names = {known[key].name for key in keys if key in known}
        for row, key in zip(reversed(rows), reversed(keys), strict=True):
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
    """What a command line asks for: its words in any order, but those that change no result."""
    try:
        words = shlex.split(command)[1:]
    except ValueError:
        words = [command]
    bare = {word.lstrip("+") for word in words}
    return tuple(sorted(word for word in bare if not word.startswith(NO_MATTER)))


def _name(command: str, siblings: set[str]) -> str:
    """The name that a point will have, as far as that can be told."""
    given = dict(word.split("=", 1) for word in meaning(command) if "=" in word)
    if "name" in given:
        return given["name"]
    return next(iter(siblings)) if len(siblings) == 1 else given.get("experiment", "?")


def _lives(folder: Path, now: datetime, *, has_recent: bool) -> bool:
    owner = read_json(folder / "sweep.json") or {}
    started = moment(owner.get("started"))
    alive = lives(owner, started)
    if alive is None:  # on another machine: its points tell, or its being new
        return bool(owner) and (has_recent or seconds_since(started, now) < SILENT_SECONDS)
    return alive
