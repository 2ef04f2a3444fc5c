"""The figures of a sweep: measure by sparsity, difference to dense, largest match, trade-off."""

from __future__ import annotations

import math

from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, NullLocator

from lth_runner.runs.evidence.rows import TICKET
from lth_runner.runs.evidence.sweep import Setting, Sweep
from lth_runner.runs.evidence.tradeoff import Fit
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.cells import colour_bar, draw_cells
from lth_runner.runs.pages.drawing import INK, MUTED, EndLabel
from lth_runner.runs.pages.lines import (
    LARGE,
    PERCENT,
    SPARSITY,
    Frame,
    Line,
    line_figure,
    paint,
    points_of,
)
from lth_runner.runs.report.curve import dense_reference

WIDTH = 10.0  # inches


def outcome_figure(sweep: Sweep) -> Figure | None:
    """Draws the measure against sparsity, a line per setting, the dense band behind them.

    Of a setting whose runs share no tickets the points are not joined.
    """
    detail = "one seed"
    if len(sweep.seeds) > 1:
        detail = "line: mean, band: ± 1 standard deviation over seeds"
    if not all(one.is_chain for one in sweep.settings):
        detail += " · points that share no tickets are not joined"
    frame = Frame(
        say.axis(sweep.measure),
        SPARSITY,
        set_x=lambda axes, _: sparsity_axis(axes, sweep),
        references=dense_reference(sweep.measure, sweep.dense, sweep.tolerance),
    )
    title = f"{say.label(sweep.measure).capitalize()} against sparsity, by {sweep.by}"
    lines = [_line(sweep, one, index) for index, one in enumerate(sweep.settings)]
    return line_figure(lines, frame, size=LARGE, title=(title, detail))


def _line(sweep: Sweep, one: Setting, index: int) -> Line:
    points = points_of(one.verdict.of(TICKET), sweep.measure)
    if points and sweep.dense is not None and one.is_chain:
        points = [*points_of([sweep.dense], sweep.measure), *points]
    style = drawing.style(index) if one.is_chain else ""
    line = Line(one.label, drawing.colour(index), style=style, marker=drawing.marker(index),
                width=2.1)  # fmt: skip
    return line.through(points)


def sparsity_axis(axes: Axes, sweep: Sweep) -> None:
    """Sets the density axis of other figures with ticks as sparsities, those asked for first."""
    densities = [1.0, *(1 - column.sparsity for column in sweep.columns if column.level)]
    asked = [1 - column.sparsity for column in sweep.columns if column.asked]
    drawing.density_axis(axes, densities, asked=asked[::-1], write=_bare)


def _bare(density: float) -> str:
    return say.removed(density).removesuffix(" %")


def difference_figure(sweep: Sweep) -> Figure | None:
    """Draws a heat map of setting x sparsity: by how much the mean is better than dense."""
    columns, settings, measure = sweep.shown, sweep.settings, sweep.measure
    if not columns or sweep.dense is None:
        return None
    written, longest, tallest = drawing.folded([one.label for one in settings])
    height = 1.9 + (0.48 + 0.12 * (tallest - 1)) * max(len(settings), 2)
    figure = drawing.new_figure(WIDTH, height)
    left = 0.07 + 0.0085 * longest
    box = (left, 0.68 / height, 0.885 - left, 1 - 1.55 / height)
    axes = figure.add_axes(box)
    grid = [
        [measure.scale * level.against_dense.difference
         if (level := one.at(column)) is not None and level.against_dense is not None else math.nan
         for column in columns]
        for one in settings
    ]  # fmt: skip
    tolerance = measure.scale * sweep.tolerance
    linear = max(tolerance, 0.1 if measure.unit == "%" else 1e-9)
    reach = max([abs(x) for line in grid for x in line if not math.isnan(x)] + [2 * linear])
    norm = SymLogNorm(linthresh=linear, linscale=0.3, vmin=-reach, vmax=reach)
    image = draw_cells(
        axes, grid, rows=written,
        columns=[_bare(1 - column.sparsity) for column in columns], norm=norm, colours="RdBu",
        size=9.5,
    )  # fmt: skip
    for i, one in enumerate(settings):
        for j, column in enumerate(columns):
            level = one.at(column)
            matches = level is not None and level.matches == "shown" and one.verdict.counts(level)
            _write_cell(axes, (j, i), level, grid[i][j], norm, len(columns), bold=matches)
    axes.set_xlabel("sparsity (% of the weights removed)", color=INK, fontsize=10.5, labelpad=6)
    axes.set_ylabel(sweep.by, color=INK, fontsize=10.5, labelpad=6)
    bar = colour_bar(figure, image, (0.91, box[1], 0.014, box[3]),
                     lambda value: say.signed(value, ".3g") if value else "0")  # fmt: skip
    bar.ax.yaxis.set_major_locator(FixedLocator(_bar_ticks(linear, reach)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    unit = f" ({unit})" if (unit := say.difference_unit(measure).strip()) else ""
    versus = "minus dense" if measure.better == "higher" else "below dense"
    drawing.title(axes, f"Mean {say.label(measure)} {versus}{unit}",
                  f"bold: shown to match (within {say.amount(measure, sweep.tolerance)}) · "
                  "hatched: not measured")  # fmt: skip
    return figure


def _bar_ticks(linear: float, reach: float) -> list[float]:
    """Ticks zero, the tolerance, and 2, 20 and 200 times as much, as far as they go."""
    far = [k * linear for k in (4, 40, 400) if k * linear <= 0.8 * reach]
    side = [linear, *far, *([reach] if not far or reach > 2.5 * far[-1] else [])]
    return sorted({0.0, *side, *(-value for value in side)})


def _write_cell(
    axes: Axes, place: tuple[int, int], level: Level | None, value: float, norm: SymLogNorm,
    num_columns: int, *, bold: bool,
) -> None:  # fmt: skip
    x, y = place
    corner, missing = (x - 0.5, y - 0.5), math.isnan(value)
    if missing:
        axes.add_patch(Rectangle(corner, 1, 1, linewidth=0, edgecolor="#c3c8d1",
                                 facecolor="#f4f5f8", hatch="////"))  # fmt: skip
    axes.add_patch(Rectangle(corner, 1, 1, linewidth=1.8, edgecolor="white", facecolor="none"))
    diverged = level is not None and level.num_diverged > 0
    text = "diverged" if missing and diverged else ""
    if not missing:
        decimals = 2 if num_columns <= 10 and abs(value) < 9.995 else 1
        text = say.signed(value, f".{decimals}f") + ("!" if diverged else "")
    dark = not missing and abs(norm(value) - 0.5) > 0.33
    axes.text(
        x, y, text, ha="center", va="center", color="white" if dark else INK,
        fontsize=10 if num_columns <= 10 else 8, fontweight="bold" if bold else "normal",
    )  # fmt: skip


def matching_figure(sweep: Sweep) -> Figure | None:
    """Draws the sparsest match of each setting, shown and undecided, and what each seed is at."""
    seeds = [list(one.by_seed().values()) for one in sweep.settings]
    every = [one.verdict for one in sweep.settings] + [v for own in seeds for v in own]
    if len(sweep.settings) < 2 or not any(verdict.marked() for verdict in every):
        return None  # one bar, or none: the table says it
    figure = drawing.new_figure(WIDTH, 4.8)
    axes = figure.add_axes((0.085, 0.16, 0.885, 0.62))
    drawing.tidy(axes, xlabel=sweep.by, ylabel="sparsest match (%)")
    axes.set_yscale("log")
    for x, (one, own) in enumerate(zip(sweep.settings, seeds, strict=True)):
        for index, verdict in enumerate(own):
            level = verdict.by_mean()
            shift = 0.18 * (index - (len(own) - 1) / 2) / max(len(own) - 1, 1)
            axes.plot([x + 0.3 + shift], [level.density if level else 1.0], "o", markersize=5.5,
                      color=MUTED, alpha=0.6, markeredgecolor="white", markeredgewidth=0.6,
                      clip_on=False)  # fmt: skip
        _draw_bar(axes, x, one.verdict)
    axes.set_xlim(-0.6, len(sweep.settings) - 0.4)
    axes.set_xticks(range(len(sweep.settings)))
    axes.set_xticklabels([one.label for one in sweep.settings], parse_math=False)
    axes.grid(visible=False, axis="x")
    shown = [x for v in every for x in (v.marked(), v.possible(), v.last()) if x is not None]
    least = min((level.density for level in shown if level.density > 0), default=1.0)
    ticks = [x for x in (1.0, 0.8, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005)
             if x >= 0.9 * least]  # fmt: skip
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([_bare(tick) for tick in ticks])
    axes.set_ylim(1.0, 0.72 * least)
    drawing.title(
        axes,
        f"Sparsest match, by {sweep.by}",
        "bar: shown, pale: not refuted · dots: each seed's value is within · dash: measured",
    )
    return figure


def _draw_bar(axes: Axes, x: int, verdict: Verdict) -> None:
    last = verdict.last()
    if last is not None:
        axes.plot([x - 0.2, x + 0.42], [last.density] * 2, color=MUTED, linewidth=1.0,
                  linestyle=(0, (4, 2)), clip_on=False)  # fmt: skip
    for best, alpha in ((verdict.possible(), 0.3), (verdict.shown(), 0.85)):
        if best is not None:
            axes.bar([x], [best.density - 1.0], width=0.3, bottom=1.0, color=drawing.colour(0),
                     alpha=alpha, zorder=2)  # fmt: skip
    axes.annotate(
        say.match(verdict, best), xy=(x, best.density if best else 1.0), xytext=(0, 4),
        textcoords="offset points", ha="center", va="bottom", fontsize=10,
        color=INK if best else MUTED, fontweight="bold" if best else "normal",
    )  # fmt: skip


# --- the model of a trade-off


def tradeoff_figure(sweep: Sweep, fit: Fit) -> Figure:
    """Draws the model's lines through the measured means; right s_max(k) with its interval."""
    figure = drawing.new_figure(WIDTH, 5.2)
    left = figure.add_axes((0.075, 0.14, 0.355, 0.65))
    right = figure.add_axes((0.61, 0.14, 0.37, 0.65))
    _draw_model(left, sweep, fit)
    _draw_largest_sparsity(right, sweep, fit)
    drawing.title(left, "The trade-off model", "lines: model, marks: measured means")
    drawing.title(right, "Sparsest match s_max(k)", "line: model, band: 95 % interval")
    return figure


def _draw_model(axes: Axes, sweep: Sweep, fit: Fit) -> None:
    lines, ends, scale = [], [], sweep.measure.scale
    for index, one in enumerate(sweep.settings):
        last = one.verdict.last()
        if one.step is None or last is None:
            continue
        colour, points = drawing.colour(index), points_of(one.verdict.of(TICKET), sweep.measure)
        marks = Line(one.label, colour, style="", marker=drawing.marker(index), width=2.1)
        lines.append(marks.through((x, y, 0.0) for x, y, _ in points))
        places = [last.density ** (i / 60) for i in range(61)]
        model = [(PERCENT * x, scale * fit.model.accuracy(one.step, 1 - x), 0.0) for x in places]
        lines.append(Line(one.label, colour, marker="", width=1.6).through(model))
        ends.append(EndLabel(*model[-1][:2], one.label, colour))
    paint(axes, lines, Frame(say.axis(sweep.measure), "sparsity (%)"))
    sparsity_axis(axes, sweep)
    drawing.end_labels(axes, ends, size=9)


def _draw_largest_sparsity(axes: Axes, sweep: Sweep, fit: Fit) -> None:
    cells = [(one.step, level) for one in sweep.settings if one.step is not None
             for level in one.verdict.of(TICKET)
             if level.matches is not None and level.density > 0]  # fmt: skip
    least = min(1 - fit.sparsities[-1], *(level.density for _, level in cells)) * 0.8
    first = next(step for step in fit.steps if step > 0)
    places = [fit.steps[-1] * (i / 100) ** 2 for i in range(101)]
    found = [(k, fit.largest_sparsity(k)) for k in places]

    def across(sparsity: float | None) -> float:
        return PERCENT * max(least / 2, 1 - (sparsity or 0.0))

    ends = [(one.low, one.high) for _, one in found]
    low, high = ([across(end) for end in side] for side in zip(*ends, strict=True))
    axes.fill_betweenx(places, low, high, color=drawing.colour(0), alpha=0.16, linewidth=0)
    curve = Line("s_max(k)", drawing.colour(0), marker="", width=2)
    lines = [curve.through((across(one.value), k, 0.0) for k, one in found)]
    for word, colour, hollow in (("shown", drawing.colour(2), False), ("undecided", MUTED, True),
                                 ("refuted", drawing.colour(1), True)):  # fmt: skip
        dots = Line(word, colour, style="", width=2.1, hollow=hollow)
        lines.append(dots.through((PERCENT * level.density, float(step), 0.0)
                     for step, level in cells if level.matches == word))  # fmt: skip
    paint(axes, lines, Frame("rewind step k", "sparsity (%)"))
    for drawn in axes.lines[1:]:
        drawn.set_clip_on(False)  # dots at 0 lie on the edge
    sparsity_axis(axes, sweep)
    axes.set_xlim(right=PERCENT * least)
    ticks = sorted({step for step, _ in cells})
    axes.set_yscale("symlog", linthresh=first, linscale=0.6)
    axes.set_ylim(0 if ticks[0] == 0 else first / 3, 1.5 * ticks[-1])
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([f"{tick:,}" for tick in ticks])
    axes.legend(handles=list(axes.lines), loc="lower left", bbox_to_anchor=(0, 1.0), ncol=4,
                fontsize=8, frameon=False, handletextpad=0.4, columnspacing=1.0,
                borderpad=0)  # fmt: skip
