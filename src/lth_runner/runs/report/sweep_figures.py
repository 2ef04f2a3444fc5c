"""The figures of a sweep: accuracy, difference to dense, largest matching sparsity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import FAINT, INK, MUTED, EndLabel
from lth_runner.runs.report.figures import HEIGHT, WIDTH
from lth_runner.runs.report.rows import TICKET
from lth_runner.runs.report.sweep import Column, Line, Sweep
from lth_runner.runs.report.verdict import Level
from lth_runner.runs.report.wording import accuracy, none_of, removed

PERCENT = 100.0
SPARSITY = "sparsity (% of the weights removed, log scale of what remains)"


def accuracy_figure(sweep: Sweep) -> Figure:
    """Accuracy against sparsity, a line per rewind step, the dense band behind them."""
    figure = drawing.new_figure(WIDTH, HEIGHT)
    axes = figure.add_axes((0.085, 0.125, 0.7, 0.70))
    drawing.tidy(axes, xlabel=SPARSITY, ylabel="test accuracy (%)")
    ends: list[EndLabel] = []
    densities = [1.0]
    for index, line in enumerate(sweep.lines):
        levels = [level for level in line.verdict.of(TICKET) if level.mean is not None]
        dense = sweep.dense
        if dense is not None and dense.mean is not None:
            levels = [dense, *levels]
        if len(levels) > 1 or (levels and dense is None):
            ends.append(_draw_line(axes, line.label, levels, index))
            densities += [level.density for level in levels]
    if not ends:
        return _empty(figure, axes)
    sparsity_axis(axes, sweep, densities)
    dense = sweep.dense
    if dense is not None and dense.mean is not None:
        ends.append(_dense_band(axes, dense, sweep.tolerance))
    size = 10.0 if len(ends) <= 14 else 7.5
    longest = max(len(part) for end in ends for part in end.text.split("\n"))
    axes.set_position((0.085, 0.125, 0.87 - 0.00082 * size * longest, 0.70))
    drawing.end_labels(axes, ends, size=size)
    seeds = len(sweep.seeds)
    detail = "line: mean, band: ± 1 standard deviation over seeds" if seeds > 1 else "one seed"
    drawing.title(axes, f"Accuracy against sparsity, by {sweep.by}", detail)
    return figure


def _draw_line(axes: Axes, label: str, levels: Sequence[Level], index: int) -> EndLabel:
    colour = drawing.colour(index)
    x = [PERCENT * level.density for level in levels]
    y = [PERCENT * level.mean for level in levels if level.mean is not None]
    spreads = [PERCENT * (level.std or 0.0) for level in levels]
    low = [a - b for a, b in zip(y, spreads, strict=True)]
    high = [a + b for a, b in zip(y, spreads, strict=True)]
    axes.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    axes.plot(
        x, y, color=colour, linestyle=drawing.style(index), marker=drawing.marker(index),
        linewidth=2.0, markersize=5, markeredgecolor="white", markeredgewidth=0.7, zorder=4,
    )  # fmt: skip
    return EndLabel(x[-1], y[-1], label, colour)


def _dense_band(axes: Axes, dense: Level, tolerance: float) -> EndLabel:
    assert dense.mean is not None
    level, spread = PERCENT * dense.mean, PERCENT * (dense.std or 0.0)
    axes.axhspan(level - spread, level + spread, color=MUTED, alpha=0.16, linewidth=0, zorder=1)
    axes.axhline(level, color=MUTED, linewidth=1.2, zorder=1.5)
    axes.axhline(level - PERCENT * tolerance, color=MUTED, linewidth=0.9, linestyle=":", zorder=1.5)
    text = f"dense {accuracy(dense, 1)}\ndotted: −{PERCENT * tolerance:g} points"
    return EndLabel(axes.get_xlim()[1], level, text, MUTED)


def sparsity_axis(
    axes: Axes, sweep: Sweep, densities: Sequence[float], *, min_gap: float = 0.045
) -> None:
    """The density axis of the other figures, ticks written as sparsities, those asked for first."""
    drawing.density_axis(axes, densities)
    first, last = (math.log(x) for x in axes.get_xlim())
    asked = [1 - column.sparsity for column in sweep.columns if column.asked]
    ticks: list[float] = []
    for value in [1.0, *reversed(asked), *sorted(densities, reverse=True)]:
        gaps = (abs(math.log(value / tick)) for tick in ticks)
        inside = last <= math.log(PERCENT * value) <= first
        if inside and all(gap > min_gap * (first - last) for gap in gaps):
            ticks.append(value)
    axes.xaxis.set_major_locator(FixedLocator([PERCENT * tick for tick in ticks]))
    axes.set_xticklabels([_short(1 - tick) for tick in ticks])


def _short(sparsity: float) -> str:
    return removed(1 - sparsity).removesuffix(" %")


def difference_figure(sweep: Sweep) -> Figure:
    """Heat map of rewind step x sparsity: mean accuracy minus dense, in points."""
    columns, lines = sweep.shown, sweep.lines
    height = 1.9 + 0.48 * max(len(lines), 2)
    figure = drawing.new_figure(WIDTH, height)
    left = 0.07 + 0.0085 * max(len(line.label) for line in lines)
    box = (left, 0.68 / height, 0.885 - left, 1 - 1.55 / height)
    axes = figure.add_axes(box)
    if not columns:
        return _empty(figure, axes)
    cells = {
        (i, j): PERCENT * level.against_dense.difference
        for i, line in enumerate(lines)
        for j, column in enumerate(columns)
        if (level := line.at(column)) is not None and level.against_dense is not None
    }
    reach = max([abs(value) for value in cells.values()] + [2 * PERCENT * sweep.tolerance, 0.2])
    linear = max(PERCENT * sweep.tolerance, 0.1)
    norm = SymLogNorm(linthresh=linear, linscale=0.3, vmin=-reach, vmax=reach)
    grid = [[cells.get((i, j), math.nan) for j in range(len(columns))] for i in range(len(lines))]
    shades = matplotlib.colormaps["RdBu"]
    image = axes.imshow(grid, aspect="auto", cmap=shades, norm=norm)
    for i, line in enumerate(lines):
        for j, column in enumerate(columns):
            _write_cell(axes, (j, i), line.at(column), cells.get((i, j)), norm, len(columns))
    _label_cells(axes, columns, lines, sweep.by)
    bar = figure.colorbar(image, cax=figure.add_axes((0.91, box[1], 0.014, box[3])))
    bar.ax.yaxis.set_major_locator(FixedLocator(_bar_ticks(linear, reach)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(
        lambda value, _: f"{value:+g}".replace("-", "−") if value else "0"
    )
    bar.ax.tick_params(labelsize=8.5, labelcolor=INK, color=MUTED)
    bar.outline.set_visible(False)
    drawing.title(axes, "Mean accuracy minus dense (points)",
                  f"bold: matches (within {PERCENT * sweep.tolerance:g} points) · hatched: not "
                  "measured")  # fmt: skip
    return figure


def _label_cells(axes: Axes, columns: Sequence[Column], lines: Sequence[Line], by: str) -> None:
    axes.set_xticks(range(len(columns)), [_short(column.sparsity) for column in columns])
    axes.set_yticks(range(len(lines)))
    axes.set_yticklabels([line.label for line in lines], parse_math=False)
    axes.tick_params(length=0, labelsize=9.5, labelcolor=INK)
    axes.set_xlabel("sparsity (% of the weights removed)", color=INK, fontsize=10.5, labelpad=6)
    axes.set_ylabel(by, color=INK, fontsize=10.5, labelpad=6)
    for side in axes.spines.values():
        side.set_visible(False)


def _bar_ticks(linear: float, reach: float) -> list[float]:
    """Zero, the tolerance, and 1, 10, 100 points beyond it, as far as they go."""
    far = [value for value in (1.0, 10.0, 100.0) if 1.8 * linear < value <= reach]
    side = [linear, *far] if far or reach < 1.5 * linear else [linear, reach]
    return sorted({0.0, *side, *(-value for value in side)})


def _write_cell(
    axes: Axes, place: tuple[int, int], level: Level | None, value: float | None,
    norm: SymLogNorm, num_columns: int,
) -> None:  # fmt: skip
    x, y = place
    corner = (x - 0.5, y - 0.5)
    if value is None:
        axes.add_patch(Rectangle(corner, 1, 1, linewidth=0, edgecolor="#c3c8d1",
                                 facecolor="#f4f5f8", hatch="////"))  # fmt: skip
    axes.add_patch(Rectangle(corner, 1, 1, linewidth=1.8, edgecolor="white", facecolor="none"))
    diverged = level is not None and level.num_diverged > 0
    text = "diverged" if value is None and diverged else ""
    if value is not None:
        decimals = 2 if num_columns <= 10 and abs(value) < 9.995 else 1
        text = f"{value:+.{decimals}f}".replace("-", "−") + ("!" if diverged else "")
    matches = level is not None and level.matches is True
    dark = value is not None and abs(norm(value) - 0.5) > 0.33
    axes.text(
        x, y, text, ha="center", va="center", color="white" if dark else INK,
        fontsize=10 if num_columns <= 10 else 8, fontweight="bold" if matches else "normal",
    )  # fmt: skip


def matching_figure(sweep: Sweep) -> Figure:
    """The largest matching sparsity of each rewind step: of the mean, and of each seed."""
    figure = drawing.new_figure(WIDTH, 4.8)
    axes = figure.add_axes((0.085, 0.16, 0.885, 0.62))
    drawing.tidy(axes, xlabel="rewind step", ylabel="largest matching sparsity (%)")
    axes.set_yscale("log")
    densities = [1.0]
    for x, line in enumerate(sweep.lines):
        best = line.verdict.largest(TICKET)
        seeds = line.by_seed()
        for index, verdict in enumerate(seeds.values()):
            own = verdict.largest(TICKET)
            y = own.density if own else 1.0
            shift = 0.18 * (index - (len(seeds) - 1) / 2) / max(len(seeds) - 1, 1)
            axes.plot([x + 0.3 + shift], [y], "o", markersize=5.5, color=MUTED, alpha=0.6,
                      markeredgecolor="white", markeredgewidth=0.6, clip_on=False)  # fmt: skip
            densities.append(y)
        if best is not None:
            densities.append(best.density)
        _mark_line(axes, x, line, best)
        if line.last is not None:
            densities.append(line.last.density)
    axes.set_xlim(-0.6, len(sweep.lines) - 0.4)
    axes.set_xticks(range(len(sweep.lines)))
    axes.set_xticklabels([line.label for line in sweep.lines], parse_math=False)
    axes.grid(visible=False, axis="x")
    ticks = [x for x in (1.0, 0.8, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005)
             if x >= 0.9 * min(densities)]  # fmt: skip
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([_short(1 - tick) for tick in ticks])
    axes.set_ylim(1.0, 0.72 * min(densities))
    drawing.title(
        axes,
        "Largest matching sparsity, by rewind step",
        "bar: mean of the seeds · grey dots: each seed alone · dash: largest measured",
    )
    return figure


def _mark_line(axes: Axes, x: int, line: Line, best: Level | None) -> None:
    if line.last is not None:
        axes.plot([x - 0.2, x + 0.42], [line.last.density] * 2, color=MUTED, linewidth=1.0,
                  linestyle=(0, (4, 2)), clip_on=False)  # fmt: skip
    if best is not None:
        axes.bar([x], [best.density - 1.0], width=0.3, bottom=1.0, color=drawing.colour(0),
                 alpha=0.85, zorder=2)  # fmt: skip
    text = removed(best.density) if best else none_of(line.verdict)
    axes.annotate(
        text, xy=(x, best.density if best else 1.0), xytext=(0, 4),
        textcoords="offset points", ha="center", va="bottom", fontsize=10,
        color=INK if best else MUTED, fontweight="bold" if best else "normal",
    )  # fmt: skip


def _empty(figure: Figure, axes: Axes) -> Figure:
    axes.text(0.5, 0.5, "no finished round yet", transform=axes.transAxes, ha="center",
              color=FAINT)  # fmt: skip
    return figure
