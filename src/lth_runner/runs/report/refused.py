"""Points of a sweep that never became runs, by what the sweep wrote down of them."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lth_runner.runs.report.rows import FinishedRun
from lth_runner.values.json_files import whole_objects

POINTS, FAILURES = "points.jsonl", "failures.jsonl"  # as a sweep writes them
UNSAID = ("paths.", "record.", "record=", "threads=", "train.snapshots=", "hydra")


def refusals(runs: Sequence[FinishedRun]) -> list[str]:
    """Writes a sentence for each cause for which points of the runs' sweeps have no folder."""
    words = {_words(str(run.status.get("command") or "")) for run in runs}
    names = {f"name={run.name}" for run in runs}
    failed: dict[frozenset[str], str] = {}
    asked: dict[frozenset[str], list[frozenset[str]]] = {}
    for outputs in sorted({run.folder.resolve().parent.parent for run in runs}):
        for file in sorted(outputs.glob(f"sweeps/*/{FAILURES}")):
            points = [
                _words(str(one.get("command"))) for one in whole_objects(file.parent / POINTS)
            ]
            if not any(point in words or names & point for point in points):
                continue
            for one in whole_objects(file):
                key = _words(str(one.get("command")))
                if key not in words:
                    failed[key] = str(one.get("error", "")).partition("\n")[0]
                    asked[key] = points
    causes: dict[str, list[str]] = {}
    for key, error in failed.items():
        causes.setdefault(error, []).append(_named(key, asked[key]))
    return [f"No run of {'; '.join(sorted(points))}: {error}." for error, points in causes.items()]


def _words(command: str) -> frozenset[str]:
    """Reads what a command asks for, without what changes no result."""
    try:
        words = shlex.split(command)[1:]
    except ValueError:
        words = [command]
    bare = (word.lstrip("+") for word in words)
    return frozenset(word for word in bare if not word.startswith(UNSAID))


def _named(key: frozenset[str], points: Sequence[frozenset[str]]) -> str:
    """Finds the words in which a point differs from others of its sweep."""
    shared = frozenset.intersection(*points) if len(points) > 1 else frozenset()
    return " ".join(sorted(key - shared)) or "a point"
