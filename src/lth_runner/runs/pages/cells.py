"""Cells of a table in shades of colour, with their names and a bar that says what a shade is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lth_runner.runs.pages.drawing import INK, MUTED

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
