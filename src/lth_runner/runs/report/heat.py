"""Heat maps of densities by layer and round or pruner, and how their cells are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import INK, MUTED
from lth_runner.runs.report.rows import TICKET, FinishedRun, object_means

PERCENT = 100.0
WIDTH = 9.0  # inches
MAX_WRITTEN_CELLS = 200

Cells = Sequence[Sequence[float]]


def draw_cells(
    axes: Axes, grid: Cells, *, rows: Sequence[str], columns: Sequence[str], norm: Normalize,
    colours: str, size: float = 9,
) -> Any:  # fmt: skip
    """Draws the shades with their names and no frame; returns what a colour bar is made of."""
    image = axes.imshow(grid, aspect="auto", cmap=colours, norm=norm)
    axes.set_xticks(range(len(grid[0])))
    axes.set_xticklabels(columns, parse_math=False)
    axes.set_yticks(range(len(rows)))
    axes.set_yticklabels(rows, parse_math=False)
    axes.tick_params(length=0, labelsize=size, labelcolor=INK)
    for side in axes.spines.values():
        side.set_visible(False)
    return image


def colour_bar(
    figure: Figure, image: Any, box: tuple[float, float, float, float],
    write: Callable[[float], str] = lambda value: f"{value:g}",
) -> Any:  # fmt: skip
    """Draws a colour bar into a box of the figure."""
    bar = figure.colorbar(image, cax=figure.add_axes(box))
    bar.ax.yaxis.set_major_formatter(lambda value, _: write(value))
    bar.ax.yaxis.set_minor_formatter(lambda value, _: "")
    bar.ax.tick_params(labelsize=8.5, labelcolor=INK, color=MUTED)
    bar.outline.set_visible(False)
    return bar


def density_norm(values: Sequence[float]) -> LogNorm:
    """Makes logarithmic shades of densities in %, up to 100."""
    positive = [value for value in values if value > 0] or [1.0]
    return LogNorm(vmin=min(*positive, 99.0), vmax=100)


def write_densities(axes: Axes, grid: Cells, norm: LogNorm) -> None:
    """Writes each density in %, white on dark cells."""
    for line, values in enumerate(grid):
        for column, value in enumerate(values):
            if not math.isnan(value):
                dark = value > 0 and norm(value) > 0.6
                axes.text(column, line, f"{value:.3g}" if value < 99.5 else "100", ha="center",
                          va="center", fontsize=7.5, color="white" if dark else INK)  # fmt: skip


def layer_figure(run: FinishedRun) -> Figure | None:
    """Draws the ticket's density in each layer, layers x rounds; None where no row tells it."""
    layers, rounds, cells = layer_densities(run)
    if not layers or len(rounds) < 2:
        return None
    left = min(0.09 + 0.0075 * max(len(tail(name)) for name in layers), 0.36)
    height = max(2.2, 0.24 * len(layers) + 1.1)
    low, high = 0.62 / height, 1 - 0.80 / height
    figure = drawing.new_figure(WIDTH, height)
    axes = figure.add_axes((left, low, 0.90 - left, high))
    grid = [[cells.get((name, round), math.nan) for round in rounds] for name in layers]
    norm = density_norm(list(cells.values()))
    image = draw_cells(
        axes, grid, rows=[tail(name) for name in layers], columns=[str(x) for x in rounds],
        norm=norm, colours="Blues", size=9 if len(layers) <= 30 else 7,
    )  # fmt: skip
    axes.set_xlabel("round", color=INK, fontsize=10.5)
    if len(layers) * len(rounds) <= MAX_WRITTEN_CELLS and len(rounds) <= 20:
        write_densities(axes, grid, norm)
    colour_bar(figure, image, (0.92, low, 0.016, high))
    return figure


def layer_densities(
    run: FinishedRun,
) -> tuple[list[str], list[int], Mapping[tuple[str, int], float]]:
    """Layers in order, rounds, and (layer, round) -> density of the ticket in %."""
    cells = {
        (name, round): PERCENT * value
        for round in run.rounds(TICKET)
        for name, (value, _) in object_means(run.at(TICKET, round), "layer_density").items()
    }
    return list(dict.fromkeys(name for name, _ in cells)), sorted({r for _, r in cells}), cells


def tail(name: str) -> str:
    """Cuts a long name down to its end."""
    return name if len(name) <= 36 else f"…{name[-35:]}"
