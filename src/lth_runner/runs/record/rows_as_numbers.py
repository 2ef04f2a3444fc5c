"""Rows as the numbers of curves, for trackers: by what name, against which axis."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from lth_runner.runs.folder import Row, plain
from lth_runner.runs.record.record import RunDescription
from lth_runner.values.errors import UserError


def require(module: str, sink: str, package: str) -> None:
    """Raises UserError where what a sink writes by is not installed, before anything is trained."""
    try:
        is_there = find_spec(module) is not None
    except ValueError:  # it is loaded, and does not say from where
        is_there = True
    if not is_there:
        raise UserError(
            f"record={sink} needs {module}, which is not installed: pip install {package}, or "
            f"leave {sink} out: record=local writes the run folder alone"
        )


def curve_of_round(row: Row) -> str:
    """Names the curve of a training's row: rounds/<arm>/seed-<seed>."""
    return f"rounds/{row['arm']}/seed-{row['seed']}"


def curve_of_evaluation(row: Row) -> str:
    """Names the curve of an evaluation within a training: train/<arm>/seed-<seed>."""
    return f"train/{row['arm']}/seed-{row['seed']}"


def numbers(row: Row) -> dict[str, float]:
    """Lists the finite numbers of a row, those by layer as name/layer."""
    found: dict[str, float] = {}
    for name, value in plain(row).items():
        nested = value if isinstance(value, dict) else {None: value}
        for inner, item in nested.items():
            if isinstance(item, (int, float)):
                found[name if inner is None else f"{name}/{inner}"] = item
    return found


def steps_of_training(run: RunDescription) -> int:
    """Returns the steps of one training of a run, all of which are of one length."""
    return run.num_steps // max(1, run.num_trainings)


def total_step(row: Row, length: int) -> int:
    """Counts the steps of all rounds one after the other, up to an evaluation."""
    step: int = row["round"] * length + row["step"]
    return step


def settings(config: Any, prefix: str = "") -> dict[str, Any]:
    """Flattens a config to dotted keys with plain values; lists become text."""
    if isinstance(config, dict) and config:
        found: dict[str, Any] = {}
        for key, value in config.items():
            found |= settings(value, f"{prefix}.{key}" if prefix else str(key))
        return found
    return {prefix: config if isinstance(config, (bool, int, float, str)) else str(config)}
