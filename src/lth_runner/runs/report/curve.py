"""The picture of an experiment: its headline measure against the weights that remain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.means import density, mean, number, std
from lth_runner.runs.evidence.published import PublishedCurve, counterpart
from lth_runner.runs.evidence.rows import TICKET, FinishedRun, class_name
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.drawing import INK, MUTED, LineStyle
from lth_runner.runs.pages.lines import LARGE, PERCENT, Frame, Line, Reference, line_figure
from lth_runner.values.measure import Measure

MAX_RUNS_WITH_CONTROLS = 3
MAX_COLOURED_RUNS = 7  # more are shaded in their order
DASHED: LineStyle = (0, (5, 1.5))


def curve_figure(runs: Sequence[FinishedRun]) -> Figure:
    """Draws what `drawn_curve` draws, or says in words that there is nothing to draw yet."""
    return drawn_curve(runs) or no_curve(runs)


def no_curve(runs: Sequence[FinishedRun]) -> Figure:
    """Says in words why there is no curve to draw yet."""
    figure = drawing.new_figure(LARGE.inches[0], 1.5)
    seen = any(run.rows for run in runs)
    words = "one round so far: a curve needs two" if seen else "no finished round yet"
    figure.text(0.5, 0.5, words, ha="center", color=MUTED, fontsize=13)
    return figure


def drawn_curve(runs: Sequence[FinishedRun], names: Sequence[str] = ()) -> Figure | None:
    """Draws one run with controls, dense band and mark, or the tickets of several.

    None where no run has two rounds. Runs of another measure than the first are left out.
    """
    names = names or [run.name for run in runs]
    measure, alone = runs[0].measure, len(runs) == 1
    pairs = [(run, name) for run, name in zip(runs, names, strict=True)
             if run.measure.name == measure.name]  # fmt: skip
    verdicts = [judge(run) for run, _ in pairs]
    lines = [
        line for i, (run, name) in enumerate(pairs) for line in _lines(run, name, i, len(pairs))
    ]
    theirs = counterpart(runs[0]) if alone else None
    lines += [_published_line(theirs, measure)] if theirs else []
    known = [line for line in lines if line.x]
    figure = line_figure(
        known,
        Frame(
            say.axis(measure), unit=f" {measure.unit}".rstrip(), wrap=20 if alone else 32,
            limits=_limits(measure, known, verdicts) if known else None,
            references=dense_reference(measure, verdicts[0].dense, verdicts[0].tolerance)
            if alone else (),
        ),
        size=LARGE,
        title=(say.shortened(names[0], 70), _detail(runs[0])) if alone
        else ("Tickets side by side", _ringed(verdicts)),
    )  # fmt: skip
    if figure is None:
        return None
    axes = figure.axes[0]
    if theirs is not None:
        _draw_published(axes, theirs, measure)
    bold = [line.colour for line in lines if line.width > 2]
    for verdict, colour in zip(verdicts, bold, strict=True):
        _mark(axes, verdict, colour, alone=alone)
    return figure


def _ringed(verdicts: Sequence[Verdict]) -> str:
    by_mean = any(one.without_spread is not None for one in verdicts)
    told = "dots ringed: sparsest shown to match, else not refuted"
    return f"{told}, of one seed within the tolerance" if by_mean else told


def dense_reference(measure: Measure, dense: Level | None, tolerance: float) -> list[Reference]:
    """Makes the dense network's band, with the tolerance dotted on its worse side."""
    if dense is None or dense.mean is None:
        return []
    sign = 1 if measure.better == "higher" else -1
    one = Reference(
        y=measure.scale * dense.mean,
        label=f"dense {say.reached(measure, dense, 1 if measure.unit == '%' else None)}\n"
        f"dotted: {'−' if sign > 0 else '+'}{say.amount(measure, tolerance)}",
        spread=measure.scale * (dense.std or 0.0),
        dotted=measure.scale * (dense.mean - sign * tolerance),
        style="-",
    )
    return [one]


def _limits(
    measure: Measure, lines: Sequence[Line], verdicts: Sequence[Verdict]
) -> tuple[float, float]:
    """Finds a y axis for all lines; where one collapses, three times the depth of the bold ones.

    Everything in the units of the axis. Where lower is better, the same upside down.
    """
    sign = 1 if measure.better == "higher" else -1
    dense = [sign * measure.scale * verdict.dense.mean for verdict in verdicts
             if verdict.dense and verdict.dense.mean is not None]  # fmt: skip
    tolerance = max(measure.scale * verdict.tolerance for verdict in verdicts)
    edges = [sign * y for line in lines for side in (-1, 1) for y in line.edge(side)]
    bold = [sign * y for line in lines if line.width > 2 for y in line.edge(-sign)]
    top = max(edges)
    level = max(dense, default=max(sign * y for line in lines for y in line.y))
    least = 2.0 if measure.unit == "%" else 0.02 * (abs(level) or 1.0)
    fall = max(level - min(bold, default=level), least)
    lowest = min(*edges, level - tolerance)
    bottom = lowest if level - lowest < 6 * fall else level - 3 * fall
    pad = 0.04 * max(top - bottom, 0.25 * least)
    bottom, high = bottom - pad, top + pad
    if measure.unit == "%" and sign > 0 and top <= 100:
        high = min(high, 100.5)
    return (bottom, high) if sign > 0 else (-high, -bottom)


# --- lines


def _lines(run: FinishedRun, name: str, index: int, num_runs: int) -> list[Line]:
    alone, few = num_runs == 1, num_runs <= MAX_RUNS_WITH_CONTROLS
    coloured, found = num_runs <= MAX_COLOURED_RUNS, []
    for place, arm in enumerate(run.arms if few else (TICKET,)):
        own, shade = arm == TICKET, place if alone else index
        line = Line(
            label=arm if alone else name if own else f"{name} · {arm}",
            colour=drawing.colour(shade) if coloured else drawing.shade(index, num_runs),
            marker=drawing.marker(shade),
            width=2.3 if own else 1.6,
            style=DASHED if not own else drawing.style(shade) if coloured else "-",
        )
        found.append(_measured(run, arm, line, banded=few, with_seeds=alone))
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
    name = f"published: {series.label}"
    return Line(name, INK, style=(0, (1, 1)), marker="_", width=1.6).through(
        (PERCENT * point.density, measure.scale * point.accuracy, 0.0) for point in series.points
    )


def _draw_published(axes: Axes, series: PublishedCurve, measure: Measure) -> None:
    """Draws bars from lowest to highest, and names below the axes whose numbers they are."""
    for point in series.points:
        if point.low is not None and point.high is not None:
            ends = [measure.scale * point.low, measure.scale * point.high]
            axes.plot([PERCENT * point.density] * 2, ends, color=INK, linewidth=1.2, zorder=3.5)
    text = f"published: {series.citation}; {series.title}; {series.statistic}"
    drawing.figure_of(axes).text(0.085, 0.012, text, color=MUTED, fontsize=8, parse_math=False)


_WITHIN = "within the tolerance, not shown,"
_MARKED = {
    "shown": "shown to match",
    "undecided": "a match is undecided",
    "refuted": "a match is refuted",
}


def _mark(axes: Axes, verdict: Verdict, colour: str, *, alone: bool) -> None:
    """Draws a ring around the sparsest match, shown or not, and for one run a word on it."""
    best = verdict.marked()
    if best is None or best.mean is None:
        return
    x, y = PERCENT * best.density, verdict.measure.scale * best.mean
    axes.plot([x], [y], "o", markersize=13, markerfacecolor="none", markeredgecolor=colour,
              markeredgewidth=1.6, zorder=5)  # fmt: skip
    if not alone:
        return
    axes.axvline(x, color=colour, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1.5)
    fraction = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[0]
    by_mean = verdict.without_spread is not None
    what = _WITHIN if by_mean else _MARKED[best.matches or "undecided"]
    axes.annotate(
        f"{what} down to {say.kept(best.density)} "
        f"(sparsity {say.removed(best.density)})",
        xy=(x, 1), xycoords=("data", "axes fraction"), xytext=(0, 4), textcoords="offset points",
        ha="right" if fraction > 0.5 else "left", color=colour, fontsize=9.5,
        annotation_clip=False,
    )  # fmt: skip


# --- words


def _detail(run: FinishedRun) -> str:
    several = len(run.seeds) > 1
    parts = [
        *(_named(run.option(part)) for part in ("model", "dataset")),
        say.counted(len(run.seeds), "replicate"),
        "line: mean, band: ± 1 standard deviation, thin: each seed" if several else "",
        "" if run.state == "done" else run.state,
    ]
    return say.shortened(" · ".join(filter(None, parts)), 110)


def _named(node: object) -> str:
    if isinstance(node, dict):
        return str(node.get("name") or class_name(node))
    return "" if node is None else str(node)
