"""Runs that differ in two settings, by how well their sparsest tickets do."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lth_runner.runs.evidence.grid import Grid
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.lines import DASHED, Frame, Line, line_figure
from lth_runner.runs.pages.tables import Cells

LOGARITHMIC = 4  # values whose largest is so many times the smallest stand on a log axis


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
        [str(y), *(" / ".join(say.cell(grid.measure, one) for one in grid.levels(x, y))
                   for x in values)]
        for y in lines
    ]  # fmt: skip
    return [down, *(f"{_short(across)}={x}" for x in values)], body


def _short(key: str) -> str:
    return key.rsplit(".", 1)[-1]


def grid_figure(grid: Grid) -> Figure | None:
    """Draws the measure against the values across, a colour for each value down; dashed: dense."""
    key, values = grid.across
    places = [float(x) for x in (values if grid.is_numeric else range(len(values)))]
    factor = grid.measure.scale

    def by_value(axes: Axes, lines: Sequence[Line]) -> None:
        if grid.is_numeric and places[0] > 0 and places[-1] >= LOGARITHMIC * places[0]:
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
