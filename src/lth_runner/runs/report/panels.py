"""The figures of a run beside its instruments: difference to dense, learning, layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import MUTED, EndLabel
from lth_runner.runs.report.heat import layer_figure
from lth_runner.runs.report.instrument_lines import Panel, marked_round, shaded_lines, shown_rounds
from lth_runner.runs.report.lines import (
    DENSITY,
    PERCENT,
    SMALL,
    Line,
    Scale,
    by_count,
    line_figure,
)
from lth_runner.runs.report.rows import TICKET, FinishedRun, Row, mean, number
from lth_runner.runs.report.verdict import Verdict
from lth_runner.runs.report.wording import axis, difference_unit, label

LAYERS = (
    "Fraction of each layer's weights that the ticket keeps (%, mean of the replicates), input "
    "layer on top; darker is denser."
)


def difference_panel(run: FinishedRun, verdict: Verdict) -> Panel:
    """Gains over the dense network with their intervals, on an axis that has room for any loss."""
    measure = verdict.measure
    reading = (
        "Zero is the dense network of the same seed, above it is better; bars are 95 % t intervals "
        "of the paired difference. A bar wholly above the dotted tolerance excludes a larger loss. "
        "The axis is linear between the faint lines, logarithmic beyond."
    )
    lines = [
        Line(arm, drawing.colour(i), (), (), marker=drawing.marker(i)).through(
            (PERCENT * level.density, measure.scale * pair.difference,
             measure.scale * (pair.high - pair.difference) if pair.high is not None else 0.0)
            for level in verdict.of(arm) if (pair := level.against_dense)
        )
        for i, arm in enumerate(run.arms)
    ]  # fmt: skip
    lines = [line for line in lines if line.x]
    figure = _difference(lines, measure.scale * verdict.tolerance, difference_unit(measure).strip()
                         or label(measure))  # fmt: skip
    return Panel("difference", "Difference to the dense network", reading, figure, tuple(lines))


def _difference(lines: Sequence[Line], tolerance: float, unit: str) -> Figure | None:
    if not any(len(line.x) > 1 for line in lines):
        return None
    figure = drawing.new_figure(*SMALL.inches)
    axes = figure.add_axes(SMALL.box)
    drawing.tidy(axes, xlabel=DENSITY, ylabel=f"difference ({unit})")
    axes.axhline(0, color=MUTED, linewidth=1.2)
    axes.axhline(-tolerance, color=MUTED, linewidth=1, linestyle=":")
    for index, line in enumerate(lines):
        shift = 1 + 0.018 * (index - (len(lines) - 1) / 2)  # keeps bars of one round apart
        axes.errorbar(
            [x * shift for x in line.x], line.y, yerr=line.spread, color=line.colour,
            marker=line.marker, markersize=4.5, linewidth=1, elinewidth=1.1, capsize=2.5,
            alpha=0.95,
        )  # fmt: skip
    drawing.density_axis(axes, [x / PERCENT for line in lines for x in line.x])
    _symmetric_axis(axes, lines, max(2 * tolerance, 1e-9))
    ends = [EndLabel(line.x[-1], line.y[-1], line.label, line.colour) for line in lines]
    drawing.end_labels(axes, ends)
    return figure


def _symmetric_axis(axes: Any, lines: Sequence[Line], linear: float) -> None:
    """Sets an axis linear around zero and logarithmic beyond, so that no small loss is hidden.

    All means are inside, and their bars as far as twice the reach of the means.
    """
    means = [y for line in lines for y in line.y]
    bars = [
        y + side * s
        for line in lines
        for y, s in zip(line.y, line.spread, strict=True)
        for side in (-1, 1)
    ]
    reach = max(map(abs, means), default=linear)
    low = max(min(*means, *bars, -1.5 * linear), -2 * max(reach, 2 * linear))
    high = min(max(*means, *bars, 1.5 * linear), 2 * max(reach, 2 * linear))
    axes.set_yscale("symlog", linthresh=linear, linscale=1.2)
    axes.set_ylim(1.15 * low, 1.15 * high)
    steps = [linear / 2, *(k * 10.0**p for p in range(-6, 7) for k in (1, 3))]
    ticks = [0.0, *(side * step for step in steps if step >= linear / 2 for side in (-1, 1))]
    axes.yaxis.set_major_locator(FixedLocator([x for x in ticks if 1.15 * low <= x <= 1.15 * high]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(
        lambda value, _: f"{value:+.2g}".replace("-", "−") if value else "0"
    )
    for edge in (-linear, linear):
        axes.axhline(edge, color=MUTED, linewidth=0.5, alpha=0.5)


def learning_panels(run: FinishedRun, verdict: Verdict) -> list[Panel]:
    """Draws test and validation values against the step, for a few rounds."""
    rows, found = run.metrics(), []
    for split, what in (("test", "test"), ("val", "validation")):
        reading = (
            f"Mean {what} {label(run.measure)} of the replicates after each step; darker is "
            "sparser. Dashed: the controls of the sparsest round that matches, else the last. The "
            "axis leaves out the first steep steps."
        )
        series = _mean_series(rows, f"{split}_{run.measure.name}", run.measure.scale)
        rounds = shown_rounds([round for arm, round in series if arm == TICKET], verdict)
        marked = marked_round(run.rounds(TICKET), verdict)
        if marked is not None and (TICKET, marked) in series and marked not in rounds:
            rounds = sorted({*rounds, marked})
        lines = [x for x in shaded_lines(run, verdict, series, rounds) if len(x.x) > 1]
        figure = line_figure(
            lines, Scale(axis(run.measure, what), "training step"), set_x=by_count,
            limits=_late(run, lines) if lines else None,
        )  # fmt: skip
        found.append(Panel(f"learning-{what}", f"Learning curves ({what})", reading, figure))
    return found


def _late(run: FinishedRun, lines: Sequence[Line]) -> tuple[float, float]:
    """Sets the y axis without the first steep steps; upside down where lower is better."""
    sign = 1 if run.measure.better == "higher" else -1
    curves = [[sign * y for y in line.y] for line in lines]
    last, top = [ys[-1] for ys in curves], max(y for ys in curves for y in ys)
    least = 1.5 if run.measure.unit == "%" else 0.02 * abs(top)
    early = min(ys[len(ys) // 8] for ys in curves)
    bottom = max(early, min(last) - max(0.5 * (top - min(last)), least))
    pad = 0.05 * max(top - bottom, least / 3)
    bottom, top = bottom - pad, top + pad
    return (bottom, top) if sign > 0 else (-top, -bottom)


def _mean_series(
    rows: Iterable[Row], field: str, factor: float
) -> dict[tuple[str, int], list[tuple[float, float, float]]]:
    """Averages over seeds: (arm, round) -> (step, mean, no band).

    A step written twice counts once, the later one.
    """
    latest: dict[tuple[str, int], dict[int, dict[int, float]]] = {}
    for row in rows:
        value, step, round = number(row.get(field)), row.get("step"), row.get("round")
        if value is not None and isinstance(step, int) and isinstance(round, int):
            steps = latest.setdefault((row.get("arm", TICKET), round), {})
            steps.setdefault(step, {})[row.get("seed", 0)] = value
    return {
        key: [(step, factor * mean(seeds.values()), 0.0) for step, seeds in sorted(steps.items())]
        for key, steps in latest.items()
    }


def layers_panel(run: FinishedRun) -> Panel:
    """Draws the panel of layer densities."""
    return Panel("layers", "Density of each layer", LAYERS, layer_figure(run))
