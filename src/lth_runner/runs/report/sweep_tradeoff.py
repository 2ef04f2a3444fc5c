"""The figure of a trade-off model that can be trusted: its lines beside what was measured."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from lth_runner.runs.evidence.rows import TICKET
from lth_runner.runs.evidence.tradeoff import Fit, r_squared_words
from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import MUTED, EndLabel
from lth_runner.runs.report.lines import PERCENT, Frame, Line, paint
from lth_runner.runs.report.sweep import Sweep
from lth_runner.runs.report.sweep_figures import WIDTH, sparsity_axis
from lth_runner.runs.report.sweep_text import steps
from lth_runner.runs.report.wording import axis

INFEASIBLE: dict[str, Any] = {
    "facecolor": "#fbeee6", "edgecolor": "#e0b89f", "hatch": "///", "linewidth": 0,
}  # fmt: skip


def tradeoff_figure(sweep: Sweep, fit: Fit) -> Figure:
    """Draws the model's lines through the measured means; right k*(s) and what is infeasible."""
    figure = drawing.new_figure(WIDTH, 5.2)
    left = figure.add_axes((0.075, 0.14, 0.355, 0.65))
    right = figure.add_axes((0.61, 0.14, 0.37, 0.65))
    _draw_model(left, sweep, fit)
    _draw_smallest_step(right, sweep, fit)
    detail = f"τ = {fit.tau:.3g} steps, β = {fit.beta:.3g}, R² = {r_squared_words(fit.r_squared)}"
    drawing.title(left, "The trade-off model", "lines: model, marks: measured means")
    drawing.title(right, "Smallest matching rewind step k*(s)", detail)
    return figure


def _draw_model(axes: Axes, sweep: Sweep, fit: Fit) -> None:
    lines, ends, scale = [], [], sweep.measure.scale
    for index, one in enumerate(sweep.settings):
        points = [(level.density, level.mean, 0.0) for level in one.verdict.of(TICKET)
                  if level.mean is not None]  # fmt: skip
        if one.step is None or not points:
            continue
        last, y, colour = points[-1][0], points[-1][1], drawing.colour(index)
        marks = Line(one.label, colour, style="", marker=drawing.marker(index), width=2.1,
                     hollow=one.step == 0)  # fmt: skip
        lines.append(marks.through((PERCENT * x, scale * y, s) for x, y, s in points))
        if one.step > 0:
            places = [last ** (i / 60) for i in range(61)]
            model = [(x, fit.accuracy(one.step, 1 - x), 0.0) for x in places]
            line = Line(one.label, colour, marker="", width=1.6)
            lines.append(line.through((PERCENT * x, scale * y, s) for x, y, s in model))
            y = model[-1][1]
        label = one.label if one.step > 0 else f"{one.label}\n(not fitted)"
        ends.append(EndLabel(PERCENT * last, scale * y, label, colour))
    paint(axes, lines, Frame(axis(sweep.measure), "sparsity (%)"))
    sparsity_axis(axes, sweep)
    drawing.end_labels(axes, ends, size=9)


def _draw_smallest_step(axes: Axes, sweep: Sweep, fit: Fit) -> None:
    cells = [(one.step, level) for one in sweep.settings if one.step is not None
             for level in one.verdict.of(TICKET) if level.matches is not None]  # fmt: skip
    edge = min([level.density for _, level in cells], default=0.05) * 0.8
    feasible = 1 - fit.largest_sparsity
    if feasible > edge:
        axes.axvspan(PERCENT * feasible, PERCENT * edge / 2, zorder=0, **INFEASIBLE)
    places = [max(feasible, edge) ** (1 - (1 - i / 400) ** 4) for i in range(400)]
    curve = [(PERCENT * x, k, 0.0) for x in places if (k := fit.smallest_step(1 - x)) is not None]
    lines = [Line("k*(s)", drawing.colour(0), marker="", width=2).through(curve)]
    for name, matches, colour in (("matches", True, drawing.colour(2)), ("does not", False, MUTED)):
        dots = Line(name, colour, style="", width=2.1, hollow=not matches)
        lines.append(dots.through((PERCENT * level.density, float(step), 0.0)
                     for step, level in cells if level.matches is matches))  # fmt: skip
    paint(axes, lines, Frame("rewind step k", "sparsity (%)"))
    for drawn in axes.lines[1:]:
        drawn.set_clip_on(False)  # dots at 0 lie on the edge
    sparsity_axis(axes, sweep)
    ticks = sorted({step for step, _ in cells})
    least = next(step for step in ticks if step > 0)
    axes.set_yscale("symlog", linthresh=least, linscale=0.6)
    axes.set_ylim(0 if ticks[0] == 0 else least / 3, 4 * ticks[-1])
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([steps(tick) if tick else "0" for tick in ticks])
    names = [*(line.label for line in lines), "infeasible"]
    axes.legend([*axes.lines, Patch(**INFEASIBLE)], names, loc="lower left", ncol=4, fontsize=8,
                bbox_to_anchor=(0, 1.0), frameon=False, handletextpad=0.4, columnspacing=1.0,
                borderpad=0)  # fmt: skip
