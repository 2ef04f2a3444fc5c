"""The figure of a trade-off model that can be trusted: its lines beside what was measured."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator

from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import MUTED, EndLabel
from lth_runner.runs.report.lines import PERCENT
from lth_runner.runs.report.rows import TICKET
from lth_runner.runs.report.sweep import Sweep
from lth_runner.runs.report.sweep_figures import WIDTH, sparsity_axis
from lth_runner.runs.report.sweep_text import steps
from lth_runner.runs.report.tradeoff import Fit, r_squared_words
from lth_runner.runs.report.wording import axis

INFEASIBLE: dict[str, Any] = {
    "facecolor": "#fbeee6", "edgecolor": "#e0b89f", "hatch": "///", "linewidth": 0,
}  # fmt: skip


def tradeoff_figure(sweep: Sweep) -> Figure | None:
    """Draws left the model's lines through the measured means; right k*(s) and what is infeasible.

    None for a model that was not fitted, or that is not to be trusted.
    """
    fit = sweep.fit
    if fit is None or not fit.trusted:
        return None
    figure = drawing.new_figure(WIDTH, 5.2)
    left = figure.add_axes((0.075, 0.14, 0.355, 0.65))
    right = figure.add_axes((0.61, 0.14, 0.37, 0.65))
    _draw_model(left, sweep, fit)
    _draw_smallest_step(right, sweep, fit)
    drawing.title(left, "The trade-off model", "lines: model, marks: measured means")
    drawing.title(right, "Smallest matching rewind step k*(s)", _detail(fit))
    return figure


def _detail(fit: Fit) -> str:
    r_squared = r_squared_words(fit.r_squared)
    return f"τ = {fit.tau:.3g} steps, β = {fit.beta:.3g}, R² = {r_squared}"


def _draw_model(axes: Axes, sweep: Sweep, fit: Fit) -> None:
    drawing.tidy(axes, xlabel="sparsity (%)", ylabel=axis(sweep.measure))
    ends = []
    scale = sweep.measure.scale
    for index, one in enumerate(sweep.settings):
        levels = [level for level in one.verdict.of(TICKET) if level.mean is not None]
        if one.step is None or not levels:
            continue
        colour = drawing.colour(index)
        axes.plot(
            [PERCENT * level.density for level in levels],
            [scale * level.mean for level in levels if level.mean is not None],
            drawing.marker(index), color=colour, markersize=5, zorder=4,
            markeredgecolor="white" if one.step else colour, markeredgewidth=0.7,
            markerfacecolor=colour if one.step else "white",
        )  # fmt: skip
        label, y = one.label, levels[-1].mean or 0.0
        if one.step > 0:
            x = [levels[-1].density ** (i / 60) for i in range(61)]
            modelled = [fit.accuracy(one.step, 1 - density) for density in x]
            axes.plot(
                [PERCENT * density for density in x], [scale * value for value in modelled],
                color=colour, linewidth=1.6,
            )  # fmt: skip
            y = modelled[-1]
        else:
            label += "\n(not fitted)"
        ends.append(EndLabel(PERCENT * levels[-1].density, scale * y, label, colour))
    sparsity_axis(axes, sweep)
    drawing.end_labels(axes, ends, size=9)


def _draw_smallest_step(axes: Axes, sweep: Sweep, fit: Fit) -> None:
    drawing.tidy(axes, xlabel="sparsity (%)", ylabel="rewind step k")
    cells = [(one.step, level) for one in sweep.settings if one.step is not None
             for level in one.verdict.of(TICKET) if level.matches is not None]  # fmt: skip
    positive = sorted({step for step, _ in cells if step > 0})
    edge = min([level.density for _, level in cells], default=0.05) * 0.8
    feasible = 1 - fit.largest_sparsity
    if feasible > edge:
        axes.axvspan(PERCENT * feasible, PERCENT * edge / 2, zorder=0, **INFEASIBLE)
    grid = [max(feasible, edge) ** (1 - (1 - i / 400) ** 4) for i in range(400)]
    curve = [(PERCENT * d, k) for d in grid if (k := fit.smallest_step(1 - d)) is not None]
    axes.plot(*zip(*curve, strict=True), color=drawing.colour(0), linewidth=2, zorder=3)
    for step, level in cells:
        axes.plot([PERCENT * level.density], [step], "o", markersize=6, zorder=4, clip_on=False,
                  markerfacecolor=drawing.colour(2) if level.matches else "white",
                  markeredgecolor=drawing.colour(2) if level.matches else MUTED)  # fmt: skip
    sparsity_axis(axes, sweep)
    axes.set_yscale("symlog", linthresh=positive[0], linscale=0.6)
    axes.set_ylim(0 if any(step == 0 for step, _ in cells) else positive[0] / 3, 4 * positive[-1])
    ticks = sorted({step for step, _ in cells})
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_yticklabels([steps(tick) if tick else "0" for tick in ticks])
    handles = [
        Line2D([], [], color=drawing.colour(0), label="k*(s)"),
        Line2D([], [], marker="o", linestyle="", color=drawing.colour(2),
                                label="matches"),
        Line2D([], [], marker="o", linestyle="", markerfacecolor="white",
                                color=MUTED, label="does not"),
        Patch(label="infeasible", **INFEASIBLE),
    ]  # fmt: skip
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncol=4, fontsize=8,
                frameon=False, handletextpad=0.4, columnspacing=1.0, borderpad=0)  # fmt: skip
