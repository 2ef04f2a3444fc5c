"""How dense the ticket is in each layer, through the rounds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm

from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import INK, Panel
from lth_runner.runs.report.rows import TICKET, Run, mean, number

PERCENT = 100.0
WIDTH = 9.0  # inches
MAX_WRITTEN_CELLS = 200


def heat_map(run: Run) -> Panel:
    """Layers x rounds, logarithmic shades, with the numbers where they fit."""
    reading = (
        "Fraction of each layer's weights that the ticket keeps (%, mean of the replicates), "
        "input layer on top; darker is denser."
    )
    heading = "Density of each layer"
    layers, rounds, cells = layer_densities(run)
    if not layers:
        return Panel("layers", heading, reading, None)
    longest = max(len(tail(name)) for name in layers)
    left = min(0.09 + 0.0075 * longest, 0.36)
    height = max(2.2, 0.24 * len(layers) + 1.1)
    figure = drawing.new_figure(WIDTH, height)
    axes = figure.add_axes((left, 0.62 / height, 0.90 - left, 1 - 0.80 / height))
    grid = [[cells.get((name, round), math.nan) for round in rounds] for name in layers]
    positive = [value for value in cells.values() if value > 0] or [1.0]
    norm = LogNorm(vmin=min(*positive, 99.0), vmax=100)
    image = axes.imshow(grid, aspect="auto", cmap="Blues", norm=norm)
    axes.set_xticks(range(len(rounds)), [str(round) for round in rounds])
    axes.set_yticks(range(len(layers)))
    axes.set_yticklabels([tail(name) for name in layers], parse_math=False)
    axes.tick_params(length=0, labelsize=9 if len(layers) <= 30 else 7, labelcolor=INK)
    axes.set_xlabel("round", color=INK, fontsize=10.5)
    for side in axes.spines.values():
        side.set_visible(False)
    if len(layers) * len(rounds) <= MAX_WRITTEN_CELLS and len(rounds) <= 20:
        write_cells(axes, grid, norm)
    bar = figure.colorbar(image, cax=figure.add_axes((0.92, 0.62 / height, 0.016,
                                                      1 - 0.80 / height)))  # fmt: skip
    bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    bar.ax.yaxis.set_minor_formatter(lambda value, _: "")
    bar.ax.tick_params(labelsize=8.5, labelcolor=INK)
    bar.outline.set_visible(False)
    return Panel("layers", heading, reading, figure)


def write_cells(axes: Axes, grid: Sequence[Sequence[float]], norm: LogNorm) -> None:
    for line, values in enumerate(grid):
        for column, value in enumerate(values):
            if not math.isnan(value):
                dark = value > 0 and norm(value) > 0.6
                axes.text(column, line, f"{value:.3g}" if value < 99.5 else "100", ha="center",
                          va="center", fontsize=7.5, color="white" if dark else INK)  # fmt: skip


def layer_densities(
    run: Run,
) -> tuple[list[str], list[int], Mapping[tuple[str, int], float]]:
    """Layers in order, rounds, and (layer, round) -> density of the ticket in %."""
    found: dict[tuple[str, int], list[float]] = {}
    for row in run.rows:
        layers = row.get("layer_density")
        if row["arm"] == TICKET and isinstance(layers, Mapping):
            for name, raw in layers.items():
                if (value := number(raw)) is not None:
                    found.setdefault((str(name), row["round"]), []).append(value)
    names = list(dict.fromkeys(name for name, _ in found))
    rounds = sorted({round for _, round in found})
    return names, rounds, {key: PERCENT * mean(values) for key, values in found.items()}


def tail(name: str) -> str:
    return name if len(name) <= 36 else f"…{name[-35:]}"
