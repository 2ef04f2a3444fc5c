"""Heat maps of densities by layer and round or pruner, and how their cells are written."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from lth_runner.runs.evidence.means import object_means
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages.cells import Cells, colour_bar, draw_cells
from lth_runner.runs.pages.drawing import INK

PERCENT = 100.0
WIDTH = 9.0  # inches
ROW, GAP = 0.25, 0.62  # inches: of a pruner, and between two sparsities
MAX_WRITTEN_CELLS, MAX_WRITTEN_ROUNDS, MAX_WRITTEN_LAYERS = 200, 20, 14


def layers_by_round(run: FinishedRun) -> Figure | None:
    """Draws the ticket's density in each layer, layers x rounds; None where no row tells it."""
    found = {round: layer_densities(run, round) for round in run.rounds(TICKET)}
    rounds = [round for round, layers in found.items() if layers]
    layers = list(dict.fromkeys(name for round in rounds for name in found[round]))
    if len(rounds) < 2:
        return None
    left = min(0.09 + 0.0075 * max(len(tail(name)) for name in layers), 0.36)
    height = max(2.2, 0.24 * len(layers) + 1.1)
    low, high = 0.62 / height, 1 - 0.80 / height
    figure = drawing.new_figure(WIDTH, height)
    axes = figure.add_axes((left, low, 0.90 - left, high))
    grid = [[found[round].get(name, math.nan) for round in rounds] for name in layers]
    norm = _norm([found[round] for round in rounds])
    image = draw_cells(
        axes, grid, rows=[tail(name) for name in layers], columns=[str(x) for x in rounds],
        norm=norm, colours="Blues", size=9 if len(layers) <= 30 else 7,
    )  # fmt: skip
    axes.set_xlabel("round", color=INK, fontsize=10.5)
    if len(layers) * len(rounds) <= MAX_WRITTEN_CELLS and len(rounds) <= MAX_WRITTEN_ROUNDS:
        _write(axes, grid, norm)
    colour_bar(figure, image, (0.92, low, 0.016, high))
    return figure


def layers_by_pruner(
    found: Sequence[tuple[str, Mapping[str, Mapping[str, float]]]], width: float
) -> Figure | None:
    """Draws a heat map of pruner x layer per sparsity; shades are logarithmic, alike for all.

    `found`: sparsities with pruner -> layer -> density in %; one that no pruner has is left out.
    """
    found = [(sparsity, cells) for sparsity, cells in found if any(cells.values())]
    everything = [layers for _, cells in found for layers in cells.values()]
    layers = list(dict.fromkeys(name for one in everything for name in one))
    if not layers:
        return None
    labels = list(found[0][1])
    upright = len(layers) > MAX_WRITTEN_LAYERS // 2
    bottom = 0.45 + (0.062 * max(len(tail(name)) for name in layers) if upright else 0)
    written, longest, tallest = drawing.folded(labels)
    high = (ROW + 0.12 * (tallest - 1)) * max(len(labels), 2)
    height = bottom + len(found) * (high + GAP)
    figure = drawing.new_figure(width, height)
    left = 0.03 + 0.0085 * longest
    norm = _norm(everything)
    for place, (sparsity, cells) in enumerate(found, 1):
        low = height - place * (high + GAP) + 0.1
        axes = figure.add_axes((left, low / height, 0.90 - left, high / height))
        grid = [[one.get(name, math.nan) for name in layers] for one in cells.values()]
        last = place == len(found)
        image = draw_cells(axes, grid, rows=written, norm=norm, colours="Blues",
                           columns=[tail(name) if last else "" for name in layers])  # fmt: skip
        if len(layers) <= MAX_WRITTEN_LAYERS:
            _write(axes, grid, norm)
        axes.tick_params(axis="x", labelrotation=90 if upright else 0)
        axes.set_title(f"sparsity {sparsity}", loc="left", fontsize=10.5, color=INK)
    top = 0.8 * min(2.5, height - 1) / height
    colour_bar(figure, image, (0.92, 1 - GAP / height - top, 0.014, top))
    return figure


def layer_densities(run: FinishedRun, round: int) -> dict[str, float]:
    """Maps each layer to the ticket's density in a round, in %."""
    found = object_means(run.at(TICKET, round), "layer_density")
    return {name: PERCENT * value for name, (value, _) in found.items()}


def _norm(found: Sequence[Mapping[str, float]]) -> LogNorm:
    """Makes logarithmic shades of densities in %, up to 100."""
    positive = [value for layers in found for value in layers.values() if value > 0] or [1.0]
    return LogNorm(vmin=min(*positive, 99.0), vmax=100)


def _write(axes: Axes, grid: Cells, norm: LogNorm) -> None:
    """Writes each density in %, white on dark cells."""
    for line, values in enumerate(grid):
        for column, value in enumerate(values):
            if not math.isnan(value):
                dark = value > 0 and norm(value) > 0.6
                axes.text(column, line, f"{value:.3g}" if value < 99.5 else "100", ha="center",
                          va="center", fontsize=7.5, color="white" if dark else INK)  # fmt: skip


def tail(name: str) -> str:
    """Cuts a long name down to its end."""
    return name if len(name) <= 36 else f"…{name[-35:]}"
