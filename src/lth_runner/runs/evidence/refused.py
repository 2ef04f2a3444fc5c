"""Points of a sweep that never became runs, by what the sweep wrote down of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.incidental import is_incidental
from lth_runner.runs.sweep_folder import read_failures, read_points, sweep_folders


def refused_points(runs: Sequence[FinishedRun]) -> dict[str, list[str]]:
    """Maps each cause for which points of the runs' sweeps have no folder to those points."""
    words = {_words(str(run.status.get("command") or "")) for run in runs}
    names = {f"name={run.name}" for run in runs}
    found: dict[frozenset[str], tuple[str, str]] = {}  # the error, and the point in words
    for outputs in sorted({run.folder.resolve().parent.parent for run in runs}):
        for folder in sorted(sweep_folders(outputs)):
            failures = read_failures(folder)
            if not failures:
                continue
            points = [_words(one["command"]) for one in read_points(folder)]
            if not any(point in words or names & point for point in points):
                continue
            shared = frozenset.intersection(*points) if len(points) > 1 else frozenset()
            for one in failures:
                key = _words(one["command"])
                if key not in words:
                    told = " ".join(sorted(key - shared)) or "a point"
                    found[key] = (str(one.get("error", "")).partition("\n")[0], told)
    causes: dict[str, list[str]] = {}
    for error, told in found.values():
        causes.setdefault(error, []).append(told)
    return causes


def _words(command: str) -> frozenset[str]:
    """Reads what a command asks for, without what changes no result."""
    try:
        words = shlex.split(command)[1:]
    except ValueError:
        words = [command]
    bare = (word.lstrip("+") for word in words)
    return frozenset(word for word in bare if not is_incidental(word.partition("=")[0]))
