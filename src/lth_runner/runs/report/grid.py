"""Runs that differ in two settings, by how well their sparsest tickets do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lth_runner.runs.report import drawing
from lth_runner.runs.report.lines import Line, Scale, line_figure
from lth_runner.runs.report.rows import TICKET, FinishedRun, number
from lth_runner.runs.report.settings import natural
from lth_runner.runs.report.verdict import Level, Verdict, judge
from lth_runner.runs.report.wording import axis, reached, removed
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

    def ticket(self, x: object, y: object) -> Level | None:
        """Finds the sparsest ticket measured."""
        return self.cells[x, y].last(TICKET) if (x, y) in self.cells else None

    @property
    def measure(self) -> Measure:
        """The headline measure that all runs share."""
        return next(iter(self.cells.values())).measure

    def dense(self, x: object, y: object) -> Level | None:
        """Finds the dense network's level, where it was measured."""
        verdict = self.cells.get((x, y))
        level = verdict.dense if verdict else None
        return level if level is not None and level.mean is not None else None


def grid_of(runs: Sequence[FinishedRun], differing: Mapping[str, Sequence[Any]]) -> Grid | None:
    """Makes the grid of two keys in which four runs or more differ, each run in its own place."""
    found = {key: [_plain(x) for x in values] for key, values in differing.items() if key != "name"}
    if len(found) != 2 or len(runs) < MIN_RUNS or any(key in ELSEWHERE for key in found):
        return None
    keys = sorted(found, key=lambda key: (_numeric(found[key]), len(set(found[key]))), reverse=True)
    across, down = keys
    places = list(zip(found[across], found[down], strict=True))
    if len(set(places)) < len(runs):
        return None
    return Grid(
        across=(across, _values(found[across])),
        down=(down, _values(found[down])),
        cells={place: judge(run) for place, run in zip(places, runs, strict=True)},
    )


def _plain(value: object) -> Any:
    return value if isinstance(value, (int, float, str)) else str(value)


def _numeric(values: Sequence[Any]) -> bool:
    return all(number(value) is not None for value in values)


def _values(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(sorted(set(values), key=natural))


def grid_reading(grid: Grid) -> str:
    """Says what is compared, and at which sparsity."""
    levels = [x for place in grid.cells if (x := grid.ticket(*place)) is not None]
    ends = sorted({removed(level.density) for level in levels})
    where = f"sparsity {ends[0]}" if len(ends) == 1 else "the largest sparsity that each run has"
    return (
        f"{axis(grid.measure).capitalize()} of the tickets at {where}, by {grid.across[0]} and "
        f"{grid.down[0]}, mean ± standard deviation of the seeds; behind the "
        "slash, and dashed, the dense networks."
    )


def grid_table(grid: Grid) -> tuple[list[str], list[list[str]]]:
    """Tabulates ticket / dense, a line for each value down."""
    header = [grid.down[0], *(f"{_short(grid.across[0])}={x}" for x in grid.across[1])]
    return header, [
        [str(y), *(f"{_cell(grid, grid.ticket(x, y))} / {_cell(grid, grid.dense(x, y))}"
                   for x in grid.across[1])]
        for y in grid.down[1]
    ]  # fmt: skip


def _short(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def _cell(grid: Grid, level: Level | None) -> str:
    if level is None or level.mean is None:
        return "-"
    return f"{reached(grid.measure, level, unit=False)}{'!' if level.num_diverged else ''}"


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
        for level_of, name, style, width in (
            (grid.dense, "dense", "--", 1.2), (grid.ticket, "", "-", 2.2),
        ):  # fmt: skip
            levels = [(at, level_of(x, y)) for at, x in zip(places, values, strict=True)]
            line = Line(
                f"{_short(grid.down[0])}={y} {name}".strip(),
                drawing.colour(index),
                (),
                (),
                style=style,
                marker="" if name else drawing.marker(index),
                width=width,
            )
            lines.append(line.through(
                (at, factor * level.mean, 0.0 if name else factor * (level.std or 0.0))
                for at, level in levels
                if level is not None and level.mean is not None
            ))  # fmt: skip
    return line_figure(lines, Scale(axis(grid.measure), key), set_x=by_value)
