"""Reading all points of an outputs folder, those that have begun and those that sweeps owe."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from lth_runner.runs.status.point import Point
from lth_runner.runs.status.runs import run_folders, run_point
from lth_runner.runs.status.sweeps import owed_points
from lth_runner.values.errors import UserError


def read_points(outputs: Path, now: datetime) -> list[Point]:
    """Reads every run folder below ``outputs``, and the points of sweeps that have none yet.

    Raises UserError where there is neither.
    """
    if not outputs.is_dir():
        what = "is a file" if outputs.exists() else "does not exist"
        raise UserError(f"{outputs} {what}: give the folder that runs write to (paths.outputs)")
    points = [run_point(folder, outputs, now) for folder in run_folders(outputs)]
    points += owed_points(outputs, points, now)
    if not points:
        raise UserError(
            f"{outputs} holds no runs: give the folder that runs write to (paths.outputs), "
            "or start one with lth-run"
        )
    return points
