"""The picture of an experiment: its headline measure against the weights that remain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import INK, MUTED, LineStyle
from lth_runner.runs.report.lines import (
    DENSITY,
    LARGE,
    PERCENT,
    Line,
    Reference,
    Scale,
    limits,
    line_figure,
)
from lth_runner.runs.report.published import PublishedCurve, counterpart
from lth_runner.runs.report.rows import TICKET, FinishedRun, class_name, density, mean, number, std
from lth_runner.runs.report.verdict import Level, Verdict, judge
from lth_runner.runs.report.wording import amount, axis, counted, kept, reached, removed
from lth_runner.values.measure import Measure

MAX_RUNS_WITH_CONTROLS = 3
MAX_COLOURED_RUNS = 7  # more are shaded in their order
DASHED: LineStyle = (0, (5, 1.5))


def draw_curve(
    runs: Sequence[FinishedRun], path: str | Path, *, labels: Sequence[str] | None = None
) -> Path:
    """Writes the curve of one run, or several overlaid, as a PNG of 1600 x 1000 pixels."""
    target = Path(path)
    target.write_bytes(drawing.png(curve_figure(runs, labels=labels)))
    return target


def curve_figure(runs: Sequence[FinishedRun], *, labels: Sequence[str] | None = None) -> Figure:
    """Draws what `drawn_curve` draws, or says in words that there is nothing to draw yet."""
    figure = drawn_curve(runs, labels=labels)
    if figure is not None:
        return figure
    figure = drawing.new_figure(*LARGE.inches)
    seen = {row["round"] for run in runs for row in run.rows}
    words = "one round so far: a curve needs two" if seen else "no finished round yet"
    figure.text(0.5, 0.5, words, ha="center", color=MUTED, fontsize=13)
    return figure


def drawn_curve(
    runs: Sequence[FinishedRun], *, labels: Sequence[str] | None = None
) -> Figure | None:
    """Draws one run with controls, dense band and mark, or the tickets of several.

    None where no run has two rounds. Runs of another measure than the first are left out.
    """
    names = list(labels) if labels is not None else [run.name for run in runs]
    measure = runs[0].measure
    pairs = [(run, name) for run, name in zip(runs, names, strict=True)
             if run.measure.name == measure.name]  # fmt: skip
    verdicts = [judge(run) for run, _ in pairs]
    alone = len(runs) == 1
    lines = [
        line for i, (run, name) in enumerate(pairs) for line in _lines(run, name, i, len(pairs))
    ]
    theirs = counterpart(runs[0]) if alone else None
    lines += [_published_line(theirs, measure)] if theirs else []
    known = [line for line in lines if line.x]
    dense = verdicts[0].dense if alone else None
    title = ("Tickets side by side", "dots ringed: largest sparsity that matches dense")
    figure = line_figure(
        known,
        Scale(axis(measure), DENSITY, unit=f" {measure.unit}".rstrip()),
        references=[] if dense is None else dense_reference(measure, dense, verdicts[0].tolerance),
        size=LARGE,
        limits=curve_limits(measure, known, verdicts) if known else None,
        wrap=20 if alone else 32,
        title=(_shortened(names[0], 70), _detail(runs[0])) if alone else title,
    )
    if figure is None:
        return None
    axes = figure.axes[0]
    if theirs is not None:
        _published_bars(axes, theirs, measure)
    bold = [line.colour for line in lines if line.width > 2]
    for verdict, colour in zip(verdicts, bold, strict=True):
        _mark(axes, verdict, colour, alone=alone)
    return figure


def curve_limits(
    measure: Measure, lines: Sequence[Line], verdicts: Sequence[Verdict]
) -> tuple[float, float]:
    """Finds the y axis of lines beside the dense networks of some verdicts."""
    dense = [measure.scale * v.dense.mean for v in verdicts if v.dense and v.dense.mean is not None]
    tolerance = max((measure.scale * verdict.tolerance for verdict in verdicts), default=0.0)
    return limits(measure, lines, dense, tolerance)


def dense_reference(measure: Measure, dense: Level, tolerance: float) -> list[Reference]:
    """Makes the dense network's band, with the tolerance dotted on its worse side."""
    if dense.mean is None:
        return []
    sign = 1 if measure.better == "higher" else -1
    one = Reference(
        y=measure.scale * dense.mean,
        label=f"dense {reached(measure, dense, 1 if measure.unit == '%' else None)}\n"
        f"dotted: {'−' if sign > 0 else '+'}{amount(measure, tolerance)}",
        spread=measure.scale * (dense.std or 0.0),
        dotted=measure.scale * (dense.mean - sign * tolerance),
        style="-",
    )
    return [one]


def _lines(run: FinishedRun, name: str, index: int, num_runs: int) -> list[Line]:
    alone = num_runs == 1
    found = []
    for place, arm in enumerate(run.arms if num_runs <= MAX_RUNS_WITH_CONTROLS else (TICKET,)):
        own, shade = arm == TICKET, place if alone else index
        line = Line(
            label=arm if alone else name if own else f"{name} · {arm}",
            colour=drawing.colour(shade) if num_runs <= MAX_COLOURED_RUNS
            else drawing.shade(index, num_runs),
            x=(), y=(), marker=drawing.marker(shade), width=2.3 if own else 1.6,
            style=DASHED if not own else drawing.style(shade)
            if num_runs <= MAX_COLOURED_RUNS else "-",
        )  # fmt: skip
        found.append(_measured(run, arm, line, banded=num_runs <= MAX_RUNS_WITH_CONTROLS,
                               with_seeds=alone))  # fmt: skip
    return found


def _measured(run: FinishedRun, arm: str, line: Line, *, banded: bool, with_seeds: bool) -> Line:
    """Makes the line through an arm's rounds."""
    points: list[tuple[float, float, float]] = []
    seeds: dict[int, list[tuple[float, float]]] = {}
    for round in run.rounds(arm):
        found = [
            (row["seed"], PERCENT * x, run.measure.scale * y)
            for row in run.at(arm, round)
            if (x := density(row)) and (y := number(row.get(run.outcome))) is not None
        ]
        if found:
            values = [y for _, _, y in found]
            spread = (std(values) or 0.0) if banded else 0.0
            points.append((mean(x for _, x, _ in found), mean(values), spread))
            for seed, x, y in found if with_seeds else ():
                seeds.setdefault(seed, []).append((x, y))
    each = tuple(tuple(sorted(own, reverse=True)) for own in seeds.values())
    return replace(line.through(sorted(points, reverse=True)), seeds=each)


def _published_line(series: PublishedCurve, measure: Measure) -> Line:
    line = Line(f"published: {series.label}", INK, (), (), (), (0, (1, 1)), "_", 1.6)
    return line.through(
        (PERCENT * point.density, measure.scale * point.accuracy, 0.0) for point in series.points
    )


def _published_bars(axes: Axes, series: PublishedCurve, measure: Measure) -> None:
    """Draws bars from lowest to highest, and names below the axes whose numbers they are."""
    for point in series.points:
        if point.low is not None and point.high is not None:
            ends = [measure.scale * point.low, measure.scale * point.high]
            axes.plot([PERCENT * point.density] * 2, ends, color=INK, linewidth=1.2, zorder=3.5)
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    text = f"published: {series.citation}; {series.title}; {series.statistic}"
    figure.text(0.085, 0.012, text, color=MUTED, fontsize=8, parse_math=False)


def _mark(axes: Axes, verdict: Verdict, colour: str, *, alone: bool) -> None:
    """Draws a ring around the sparsest match, and for one run a word on it."""
    best = verdict.largest(TICKET)
    if best is None or best.mean is None:
        return
    x, y = PERCENT * best.density, verdict.measure.scale * best.mean
    axes.plot(
        [x], [y], "o", markersize=13, markerfacecolor="none", markeredgecolor=colour,
        markeredgewidth=1.6, zorder=5,
    )  # fmt: skip
    if not alone:
        return
    axes.axvline(x, color=colour, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1.5)
    fraction = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[0]
    axes.annotate(
        f"matches down to {kept(best.density)} (sparsity {removed(best.density)})",
        xy=(x, 1), xycoords=("data", "axes fraction"), xytext=(0, 4), textcoords="offset points",
        ha="right" if fraction > 0.5 else "left", color=colour, fontsize=9.5,
        annotation_clip=False,
    )  # fmt: skip


def _detail(run: FinishedRun) -> str:
    replicates = len(run.seeds)
    parts = [_named(run.option("model")), _named(run.option("dataset"))]
    parts.append(counted(replicates, "replicate"))
    if replicates > 1:
        parts.append("line: mean, band: ± 1 standard deviation, thin: each seed")
    if run.state != "done":
        parts.append(run.state)
    return _shortened(" · ".join(part for part in parts if part), 110)


def _named(node: object) -> str:
    if isinstance(node, dict):
        return str(node.get("name") or class_name(node))
    return "" if node is None else str(node)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
