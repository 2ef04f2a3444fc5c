"""Runs that differ in two settings, as a grid of their verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.means import number
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.settings import natural
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.values.measure import Measure

ELSEWHERE = ("pruner.sparsity", "rewind.step", "seed")  # have a page of their own
MIN_RUNS = 4


@dataclass(frozen=True)
class Grid:
    """`across` and `down`: the two keys with their values; a cell is the run that has both."""

    across: tuple[str, tuple[Any, ...]]
    down: tuple[str, tuple[Any, ...]]
    cells: Mapping[tuple[Any, Any], Verdict]

    @property
    def measure(self) -> Measure:
        """The headline measure that all runs share."""
        return next(iter(self.cells.values())).measure

    @property
    def is_numeric(self) -> bool:
        """Whether the values across are numbers, more than one."""
        values = self.across[1]
        return len(values) > 1 and _numeric(values)

    def levels(self, x: object, y: object) -> tuple[Level | None, Level | None]:
        """Finds the sparsest ticket measured and the dense network, where they have a value."""
        verdict = self.cells.get((x, y))
        dense = verdict.dense if verdict else None
        known = dense is not None and dense.mean is not None
        return verdict.last() if verdict else None, dense if known else None


def grid_of(runs: Sequence[FinishedRun], differing: Mapping[str, Sequence[Any]]) -> Grid | None:
    """Makes the grid of two keys in which four runs or more differ, each run in its own place."""
    found = {
        key: [value if isinstance(value, (int, float, str)) else str(value) for value in values]
        for key, values in differing.items()
        if key != "name"
    }
    if len(found) != 2 or len(runs) < MIN_RUNS or any(key in ELSEWHERE for key in found):
        return None
    across, down = sorted(
        found, key=lambda key: (_numeric(found[key]), len(set(found[key]))), reverse=True
    )
    places = list(zip(found[across], found[down], strict=True))
    if len(set(places)) < len(runs):
        return None
    values = {key: tuple(sorted(set(found[key]), key=natural)) for key in found}
    cells = {place: judge(run) for place, run in zip(places, runs, strict=True)}
    return Grid((across, values[across]), (down, values[down]), cells)


def _numeric(values: Sequence[Any]) -> bool:
    return all(number(value) is not None for value in values)
