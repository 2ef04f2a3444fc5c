"""The figures of a run beside its instruments: difference to dense, learning curves."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullLocator

from lth_runner.runs.evidence.learning import step_means
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.verdict import Verdict
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.drawing import MUTED
from lth_runner.runs.pages.lines import PERCENT, Frame, Line, Reference, by_count, line_figure
from lth_runner.runs.pages.page import Section
from lth_runner.runs.report.round_lines import shaded_lines

DIFFERENCE = (
    "Zero is the dense network, above it is better; bars are 95 % t intervals of the difference, "
    "as in the table. A bar wholly above the dotted tolerance excludes a larger loss. "
    "The axis is linear between the faint lines, logarithmic beyond."
)


def difference_panel(run: FinishedRun, verdict: Verdict) -> Section:
    """Gains over the dense network with their intervals, on an axis that has room for any loss."""
    measure, densities, lines = verdict.measure, [], []
    for index, arm in enumerate(run.arms):
        shift = 1 + 0.018 * (index - (len(run.arms) - 1) / 2)  # keeps bars of one round apart
        found = [
            (level.density, pair) for level in verdict.of(arm) if (pair := level.against_dense)
        ]
        densities += [density for density, _ in found]
        line = Line(arm, drawing.colour(index), marker=drawing.marker(index), width=1, bars=True)
        lines.append(line.through(
            (PERCENT * density * shift, measure.scale * pair.difference,
             measure.scale * (0.0 if pair.high is None else pair.high - pair.difference))
            for density, pair in found
        ))  # fmt: skip
    tolerance = measure.scale * verdict.tolerance
    unit = say.difference_unit(measure).strip() or say.label(measure)
    lines = [line for line in lines if line.x]
    frame = Frame(
        f"difference ({unit})",
        set_x=lambda axes, _: drawing.density_axis(axes, densities),
        set_y=lambda axes, drawn: _symmetric_axis(axes, drawn, max(2 * tolerance, 1e-9)),
        references=[Reference(0.0, style="-", dotted=-tolerance)],
    )
    figure = line_figure(lines, frame)
    heading = "Difference to the dense network"
    return Section(heading, DIFFERENCE, "difference", figure, lines=tuple(lines))


def _symmetric_axis(axes: Axes, lines: Sequence[Line], linear: float) -> None:
    """Sets an axis linear around zero and logarithmic beyond, so that no small loss is hidden.

    All means are inside, and their bars as far as twice the reach of the means.
    """
    means = [y for line in lines for y in line.y]
    bars = [y for line in lines for side in (-1, 1) for y in line.edge(side)]
    reach = 2 * max(*map(abs, means), 2 * linear)
    low = 1.15 * max(min(*means, *bars, -1.5 * linear), -reach)
    high = 1.15 * min(max(*means, *bars, 1.5 * linear), reach)
    axes.set_yscale("symlog", linthresh=linear, linscale=1.2)
    axes.set_ylim(low, high)
    steps = [linear / 2, *(k * 10.0**p for p in range(-6, 7) for k in (1, 3))]
    ticks = [0.0, *(side * step for step in steps if step >= linear / 2 for side in (-1, 1))]
    axes.yaxis.set_major_locator(FixedLocator([x for x in ticks if low <= x <= high]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: say.signed(value, ".2g") if value else "0")
    for edge in (-linear, linear):
        axes.axhline(edge, color=MUTED, linewidth=0.5, alpha=0.5)


def learning_panels(run: FinishedRun, verdict: Verdict) -> list[Section]:
    """Draws test and validation values against the step, for a few rounds."""
    rows, found = run.metrics(), []
    for split, what in (("test", "test"), ("val", "validation")):
        reading = (
            f"Mean {what} {say.label(run.measure)} of the replicates after each step at which all "
            f"were measured; darker is sparser. Dashed: the controls of the sparsest round that is "
            f"{say.MARKED}. The axis leaves out the first steep steps."
        )
        series = step_means(rows, f"{split}_{run.measure.name}")
        shaded = shaded_lines(run, verdict, series)
        lines = [line.scaled(run.measure.scale) for line in shaded if len(line.x) > 1]
        frame = Frame(say.axis(run.measure, what), "training step", set_x=by_count,
                      limits=_late(run, lines) if lines else None)  # fmt: skip
        heading, figure = f"Learning curves ({what})", line_figure(lines, frame)
        found.append(Section(heading, reading, f"learning-{what}", figure))
    return found


def _late(run: FinishedRun, lines: Sequence[Line]) -> tuple[float, float]:
    """Sets the y axis without the first steep steps; upside down where lower is better."""
    sign = 1 if run.measure.better == "higher" else -1
    curves = [[sign * y for y in line.y] for line in lines]
    last, top = [ys[-1] for ys in curves], max(y for ys in curves for y in ys)
    least = 1.5 if run.measure.unit == "%" else 0.02 * (abs(top) or 1.0)
    early = min(ys[len(ys) // 8] for ys in curves)
    bottom = max(early, min(last) - max(0.5 * (top - min(last)), least))
    pad = 0.05 * max(top - bottom, least / 3)
    bottom, top = bottom - pad, top + pad
    return (bottom, top) if sign > 0 else (-top, -bottom)
