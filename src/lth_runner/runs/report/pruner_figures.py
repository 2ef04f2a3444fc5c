"""The figures that pruners side by side add to those of a sweep: layer densities and effort."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import INK, MUTED
from lth_runner.runs.report.heat import (
    colour_bar,
    density_norm,
    draw_cells,
    tail,
    write_densities,
)
from lth_runner.runs.report.pruners import Comparison, Effort
from lth_runner.runs.report.wording import removed

WIDTH = 10.0  # inches
ROW, GAP = 0.25, 0.62  # inches: of a pruner, and between two sparsities
MAX_WRITTEN_LAYERS = 14


def layer_figure(comparison: Comparison) -> Figure | None:
    """Draws a heat map of pruner x layer per sparsity; shades are logarithmic, alike for all."""
    labels = [one.label for one in comparison.sweep.settings]
    columns = [
        column
        for column in comparison.columns
        if any(comparison.layers.get((label, column.level or 0)) for label in labels)
    ]
    found = [cells for cells in comparison.layers.values() if cells]
    layers = list(dict.fromkeys(name for cells in found for name in cells))
    if not columns or not layers:
        return None
    upright = len(layers) > MAX_WRITTEN_LAYERS // 2
    bottom = 0.45 + (0.062 * max(len(tail(name)) for name in layers) if upright else 0)
    high = ROW * max(len(labels), 2)
    height = bottom + len(columns) * (high + GAP)
    figure = drawing.new_figure(WIDTH, height)
    left = 0.03 + 0.0085 * max(map(len, labels))
    norm = density_norm([value for cells in found for value in cells.values()])
    for place, column in enumerate(columns):
        low = height - (place + 1) * (high + GAP) + 0.1
        axes = figure.add_axes((left, low / height, 0.90 - left, high / height))
        cells = [comparison.layers.get((label, column.level or 0), {}) for label in labels]
        grid = [[one.get(name, math.nan) for name in layers] for one in cells]
        last = place == len(columns) - 1
        image = draw_cells(axes, grid, rows=labels, norm=norm, colours="Blues",
                           columns=[tail(name) if last else "" for name in layers])  # fmt: skip
        if len(layers) <= MAX_WRITTEN_LAYERS:
            write_densities(axes, grid, norm)
        axes.tick_params(axis="x", labelrotation=90 if upright else 0)
        axes.set_title(f"sparsity {removed(1 - column.sparsity)}", loc="left", fontsize=10.5,
                       color=INK)  # fmt: skip
    top = min(2.5, height - 1) / height
    colour_bar(figure, image, (0.92, 1 - GAP / height - top * 0.8, 0.014, top * 0.8))
    return figure


def effort_figure(comparison: Comparison) -> Figure | None:
    """Draws left the seconds until a mask is there, right the steps; a row per pruner."""
    efforts = comparison.efforts
    if not efforts:
        return None
    labels = [one.label for one in comparison.sweep.settings]
    height = 1.75 + 0.3 * max(len(labels), 3)
    figure = drawing.new_figure(WIDTH, height)
    left = 0.03 + 0.0085 * max(map(len, labels))
    wide = (0.96 - left - 0.05) / 2
    box = (0.62 / height, 1 - 1.3 / height)
    seconds = figure.add_axes((left, box[0], wide, box[1]))
    steps = figure.add_axes((left + wide + 0.05, box[0], wide, box[1]))
    drawing.tidy(seconds, xlabel="seconds to find the mask (log scale)", ylabel="")
    drawing.tidy(steps, xlabel="training steps before the ticket's own", ylabel="")
    colours = _colours(efforts)
    for effort in efforts:
        y = labels.index(effort.label)
        hexed = colours[effort.sparsity]
        if effort.total > 0:
            _dot(seconds, effort.total, y, hexed)
        if effort.search:
            seconds.plot([effort.search], [y], "|", markersize=9, color=hexed, zorder=2)
        _dot(steps, effort.steps, y, hexed)
    if any(effort.total > 0 for effort in efforts):
        seconds.set_xscale("log")
    steps.set_xlim(left=-0.03 * max([effort.steps for effort in efforts] + [1.0]))
    steps.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    steps.locator_params(axis="x", nbins=5)
    _rows(seconds, labels, shown=True)
    _rows(steps, labels, shown=False)
    for sparsity, hexed in colours.items():
        seconds.plot([], [], "o", color=hexed, label=removed(1 - sparsity))
    found = seconds.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=8, frameon=False,
                           fontsize=9, title="sparsity (line: the search alone)")  # fmt: skip
    found.get_title().set(fontsize=9, color=MUTED)
    return figure


def _dot(axes: Axes, x: float, y: float, hexed: str) -> None:
    axes.plot([x], [y], "o", color=hexed, markersize=6.5, markeredgecolor="white",
              markeredgewidth=0.6, zorder=3)  # fmt: skip


def _colours(efforts: Sequence[Effort]) -> dict[float, str]:
    """Picks a shade per sparsity, darker is sparser."""
    found = sorted({effort.sparsity for effort in efforts})
    return {sparsity: drawing.shade(i, len(found)) for i, sparsity in enumerate(found)}


def _rows(axes: Axes, labels: Sequence[str], *, shown: bool) -> None:
    axes.set_yticks(range(len(labels)))
    axes.set_yticklabels(labels if shown else [], parse_math=False)
    axes.set_ylim(len(labels) - 0.4, -0.6)
