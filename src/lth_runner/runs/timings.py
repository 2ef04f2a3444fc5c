"""How long trainings like those of a run took before, from the rows of earlier runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lth_runner.runs.evidence.settings import flatten
from lth_runner.runs.folder import (
    ROUNDS,
    read_engine,
    read_environment,
    read_flat_config,
    read_rounds,
)
from lth_runner.runs.incidental import is_incidental
from lth_runner.runs.status.runs import run_folders

PARTS = ("model", "dataset", "objective", "coordinates", "train", "max_samples")  # of a config
MASKING = "pruner.masking"
LENGTHS = ("train.length", "train.shrink_to")  # how many steps, and not how long each takes
PLACES = ("dataset.root",)
MOST_LOOKED_AT = 50  # run folders, the newest first
ENOUGH = 3  # of them alike


@dataclass(frozen=True)
class Timing:
    """How long a step took in trainings that are alike."""

    seconds_per_step: float
    num_trainings: int
    folders: tuple[Path, ...]


def timing_of_like(
    outputs: Path, config: Mapping[str, Any], environment: Mapping[str, Any], engine: str | None
) -> Timing | None:
    """Finds how long a step of trainings alike took before; None where none is known.

    Alike are those of the same model, data, recipe and masking, but for the length, by the same
    engine on the same processor or GPU with as many threads. ``engine`` None: by any.
    """
    own = _deciding(flatten(config))
    machine = [environment.get(key) for key in ("device_name", "threads")]
    seconds, steps, num, found = 0.0, 0, 0, []
    for folder in _newest(outputs):
        known = read_environment(folder)
        if [known.get(key) for key in ("device_name", "threads")] != machine:
            continue
        if engine is not None and read_engine(folder).get("engine") != engine:
            continue
        other = read_flat_config(folder)
        if not other or not _is_alike(own, other):
            continue
        rows = [row for row in read_rounds(folder) if _is_timed(row)]
        if rows:
            seconds += sum(row["seconds"] for row in rows)
            steps += sum(row["steps"] for row in rows)
            num += len(rows)
            found.append(folder)
        if len(found) >= ENOUGH:
            break
    return Timing(seconds / steps, num, tuple(found)) if steps else None


def _is_alike(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two configs agree; a key that an earlier version did not have has its default."""
    return all(
        other[key] == value if key in other else not key.endswith("._target_")
        for key, value in own.items()
    )


def _deciding(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Picks the keys by which the time of a step goes."""
    return {
        key: value
        for key, value in flat.items()
        if (key.split(".")[0] in PARTS or key.startswith(f"{MASKING}."))
        and key not in (*LENGTHS, *PLACES)
        and not is_incidental(key)
    }


def _newest(outputs: Path) -> list[Path]:
    """Lists run folders that have rows, those written last first."""
    timed = []
    for folder in run_folders(outputs):
        try:
            timed.append(((folder / ROUNDS).stat().st_mtime, folder))
        except OSError:  # none yet, or gone meanwhile
            continue
    return [folder for _, folder in sorted(timed, reverse=True)[:MOST_LOOKED_AT]]


def _is_timed(row: Mapping[str, Any]) -> bool:
    seconds = row.get("seconds")
    return row["steps"] > 0 and isinstance(seconds, (int, float)) and 0 < seconds < float("inf")
