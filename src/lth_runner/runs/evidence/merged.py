"""Several runs as one, whose rounds are levels of density, and every training counts once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from lth_runner.runs.evidence.means import FIRST_ROUND, density, is_dense, mean, number
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.folder import Row
from lth_runner.runs.samples import KeptSamples

SAME_DENSITY = 1e-4  # relative: rounding to whole weights
ASKED_DENSITY = 1e-2  # relative: a measured density this near stands for the one asked for


def common_parent(runs: Sequence[FinishedRun]) -> Path:
    """Finds the folder that all run folders lie in."""
    return Path(os.path.commonpath([run.folder.resolve().parent for run in runs]))


def replicated(runs: Sequence[FinishedRun]) -> FinishedRun:
    """Merges runs that differ in their seeds alone into one run with more replicates."""
    if len(runs) == 1:
        return runs[0]
    states = {run.state for run in runs}
    state = states.pop() if len(states) == 1 else "in part done"
    rows = tuple(row for run in runs for row in run.rows)
    return replace(runs[0], rows=rows, status={"state": state}, kept_samples=kept_by_all(runs))


def merged_run(runs: Sequence[FinishedRun]) -> FinishedRun:
    """Merges the dense trainings of several runs into one run, for settings to add rows to.

    The strictest tolerance holds for all.
    """
    outcome = runs[0].outcome
    dense = _once((row for run in runs for row in run.rows if is_dense(row)), outcome)
    values = [value for row in dense if (value := number(row.get(outcome))) is not None]
    centre = mean(values) if values else None
    strictest = min(runs, key=lambda run: run.tolerance.of(centre))
    return replace(
        strictest, folder=common_parent(runs), status={}, rows=tuple(dense),
        kept_samples=kept_by_all(runs),
    )  # fmt: skip


def kept_by_all(runs: Sequence[FinishedRun]) -> KeptSamples:
    """Finds what the trainings of any of the runs made of each test sample."""
    folders = (folder for run in runs for folder in run.kept_samples.folders)
    return KeptSamples(tuple(dict.fromkeys(folders)))


def on_levels(
    merged: FinishedRun, levels: Sequence[float], runs: Sequence[FinishedRun]
) -> FinishedRun:
    """Adds the rows of runs to a merged one, their rounds numbered by the level of their density.

    Of a run's rounds on one level the last counts; of runs that are no chain, the last tickets do.
    """
    chain = is_chain(runs)
    rows: list[Row] = []
    for run in runs:
        last = max(run.rounds(TICKET), default=FIRST_ROUND)
        latest: dict[tuple[int, str, int], Row] = {}
        for row in run.rows:
            kept = density(row)
            if kept is not None and not is_dense(row) and (chain or row["round"] == last):
                level = 1 + min(range(len(levels)), key=lambda i: abs(levels[i] - kept))
                latest[level, row["arm"], row["seed"]] = {**row, "round": level}
        rows += latest.values()
    return replace(merged, rows=(*merged.rows, *_once(rows, merged.outcome)))


def is_chain(runs: Sequence[FinishedRun]) -> bool:
    """Returns whether longer runs pass what shorter ones passed on the way to their last ticket.

    So it is where a rate says how much goes in each round, not where rounds are as many as asked.
    """
    ways = [
        [kept for round in run.rounds(TICKET)
         if round != run.dense_round and (kept := run.density(TICKET, round)) is not None]
        for run in runs
    ]  # fmt: skip
    ways.sort(key=len)
    return all(
        abs(a - b) <= ASKED_DENSITY * a
        for shorter, longer in pairwise(ways)
        for a, b in zip(shorter[:-1], longer[:-1], strict=False)
    )


def levels_of(densities: Iterable[float], weight: float = 0.0) -> tuple[float, ...]:
    """Lists falling densities, those that differ by rounding alone as one (`same_density`)."""
    found: list[float] = []
    for value in sorted(densities, reverse=True):
        if not found or not same_density(found[-1], value, weight):
            found.append(value)
    return tuple(found)


def same_density(one: float, other: float, weight: float = 0.0) -> bool:
    """Returns whether densities differ by rounding alone.

    ``weight``: what a weight is of a network; networks of other heads round to others.
    """
    return abs(one - other) <= max(SAME_DENSITY * max(one, other), weight)


def _once(rows: Iterable[Row], outcome: str) -> list[Row]:
    """Keeps one row per (round, arm, seed); distinct trainings of the same are averaged."""
    places: dict[tuple[int, str, int], dict[Any, Row]] = {}
    for row in rows:
        place = (row["round"], row["arm"], row["seed"])
        places.setdefault(place, {}).setdefault(row.get("training_key"), row)
    return [_averaged(tuple(found.values()), outcome) for found in places.values()]


def _averaged(rows: Sequence[Row], outcome: str) -> Row:
    values = [value for row in rows if (value := number(row.get(outcome))) is not None]
    if len(rows) == 1 or not values:
        return rows[0]
    return {
        **rows[0], outcome: mean(values), "diverged": any(row.get("diverged") for row in rows),
        "training_keys": [row.get("training_key") for row in rows],
    }  # fmt: skip
