"""Reading run folders as points."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import datetime
from math import isfinite
from pathlib import Path

from lth_runner.runs.folder import (
    CONFIG,
    ENDED,
    REFUSAL,
    ROUNDS,
    STATUS,
    failure,
    flaw,
    read_flat_config,
    read_status,
)
from lth_runner.runs.measure import ending
from lth_runner.runs.quantities import duration
from lth_runner.runs.run_name import TAKEN
from lth_runner.runs.status.liveness import SILENT_SECONDS, age, lives, moment, seconds_since
from lth_runner.runs.status.point import Point
from lth_runner.runs.status.progress import progress, seconds_left
from lth_runner.values.json_files import read_bytes
from lth_runner.values.links import each_once

RUN_FILES = (STATUS, ROUNDS, CONFIG)
MOST_COMMAND = 100_000  # characters, of which a system runs no more
DEPTH = 4  # a name may hold slashes


def run_folders(outputs: Path) -> list[Path]:
    """Lists every run folder below a folder, which may be one itself."""
    return each_once(_below(outputs, DEPTH, TAKEN))


def _below(folder: Path, depth: int, skipped: Collection[str] = ()) -> Iterator[Path]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:  # gone meanwhile, or not ours to read
        return
    if any(entry.name in RUN_FILES for entry in entries):
        yield folder
    elif depth:
        for entry in entries:
            if entry.name not in skipped and not entry.name.startswith(".") and entry.is_dir():
                yield from _below(Path(entry.path), depth - 1)


def run_point(folder: Path, outputs: Path, now: datetime) -> Point:
    """Finds how the run of a folder stands, whatever lies in it; it is dead where nothing tells."""
    point = Point("dead", folder.parent.name, folder.name, folder)
    if (reason := flaw(folder, RUN_FILES)) is not None:
        return replace(point, reason=reason)
    try:
        return _point(point, folder, outputs, now)
    except Exception as error:  # one folder of nonsense must not hide the others
        told = str(error) or type(error).__name__
        return replace(point, reason=f"its files make no sense: {told}")


def _point(point: Point, folder: Path, outputs: Path, now: datetime) -> Point:
    config, status = read_flat_config(folder), read_status(folder)
    point = replace(point, config=config)
    if status.get("state") not in ("running", *ENDED, "interrupted", "failed"):
        return replace(point, reason="its status.json is missing or says nothing known")
    state, error = status["state"], str(status.get("error") or "")
    trained = read_bytes(folder / ROUNDS)  # then it was not the command: a full disk, say
    refused = state == "failed" and error.startswith(REFUSAL) and not trained
    point = replace(
        point,
        state="refused" if refused else state,
        name=str(status.get("name") or point.name),
        command=str(status["command"])[:MOST_COMMAND] if status.get("command") else None,
        status=status,
        reason=failure(status) if state == "failed" else None,
    )
    if point.state in ENDED:
        found = ending(folder)
        if trained and found.num == 0 and found.sparsity is None:
            return replace(point, state="dead", reason="its rounds.jsonl holds no row of a ticket")
        return replace(point, ending=found)
    if point.state == "running":
        lease = f"run-{folder.parent.name}-{folder.name}"
        point = _with_life(point, outputs / "store" / "leases" / lease, now)
    share = progress(point)
    left = seconds_left(point, share) if point.state == "running" else None
    return replace(point, progress=share, seconds_left=left)


def _with_life(point: Point, lease: Path, now: datetime) -> Point:
    """Calls a point dead where its process is gone, or neither status nor lease was touched."""
    updated = moment(point.status.get("updated"))
    alive, silent = lives(point.status, updated), min(seconds_since(updated, now), age(lease, now))
    pid, host = point.status.get("pid"), point.status.get("host")
    if alive is False:
        return replace(point, state="dead", reason=f"its process {pid} is gone")
    if silent > SILENT_SECONDS:
        when = f"no sign of life for {duration(silent)}" if isfinite(silent) else "no time stamp"
        where = f", though process {pid} exists" if alive else f" (on {host})" if host else ""
        return replace(point, state="dead", reason=when + where, may_live=bool(alive))
    return point
