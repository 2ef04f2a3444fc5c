"""Runs that differ in two settings, by how well their sparsest tickets do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.means import number
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.settings import natural
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.runs.report import drawing
from lth_runner.runs.report import wording as say
from lth_runner.runs.report.lines import DASHED, Frame, Line, line_figure
from lth_runner.runs.report.table import Cells
from lth_runner.values.measure import Measure

ELSEWHERE = ("pruner.sparsity", "rewind.step", "seed")  # have a page of their own
MIN_RUNS = 4
LOGARITHMIC = 4  # values whose largest is so many times the smallest stand on a log axis


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


def grid_reading(grid: Grid) -> str:
    """Says what is compared, and at which sparsity."""
    tickets = [ticket for place in grid.cells if (ticket := grid.levels(*place)[0]) is not None]
    ends = sorted({say.removed(ticket.density) for ticket in tickets})
    where = f"sparsity {ends[0]}" if len(ends) == 1 else "the largest sparsity that each run has"
    return (
        f"{say.axis(grid.measure).capitalize()} of the tickets at {where}, by {grid.across[0]} and "
        f"{grid.down[0]}, mean ± standard deviation of the seeds; behind the "
        "slash, and dashed, the dense networks."
    )


def grid_table(grid: Grid) -> Cells:
    """Tabulates ticket / dense, a line for each value down."""
    (across, values), (down, lines) = grid.across, grid.down
    body = [
        [str(y), *(" / ".join(_cell(grid, level) for level in grid.levels(x, y)) for x in values)]
        for y in lines
    ]
    return [down, *(f"{_short(across)}={x}" for x in values)], body


def _short(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _cell(grid: Grid, level: Level | None) -> str:
    if level is None:
        return "-"
    return f"{say.reached(grid.measure, level, unit=False)}{'!' if level.num_diverged else ''}"


def grid_figure(grid: Grid) -> Figure | None:
    """Draws the measure against the values across, a colour for each value down; dashed: dense."""
    key, values = grid.across
    numeric = _numeric(values) and len(values) > 1
    places = [float(x) for x in values] if numeric else [float(i) for i in range(len(values))]
    factor = grid.measure.scale

    def by_value(axes: Axes, lines: Sequence[Line]) -> None:
        if numeric and places[0] > 0 and places[-1] >= LOGARITHMIC * places[0]:
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(places, [str(x) for x in values])

    lines = []
    for index, y in enumerate(grid.down[1]):
        tickets, dense = zip(*(grid.levels(x, y) for x in values), strict=True)
        name, colour = f"{_short(grid.down[0])}={y}", drawing.colour(index)
        behind = Line(f"{name} dense", colour, style=DASHED, marker="", width=1.2)
        before = Line(name, colour, marker=drawing.marker(index), width=2.2)
        for line, levels, banded in ((behind, dense, False), (before, tickets, True)):
            lines.append(line.through(
                (place, factor * level.mean, factor * (level.std or 0.0) if banded else 0.0)
                for place, level in zip(places, levels, strict=True) if level is not None
            ))  # fmt: skip
    return line_figure(lines, Frame(say.axis(grid.measure), key, set_x=by_value))
