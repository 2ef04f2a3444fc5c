"""Accuracy against the weights that remain: the picture of the lottery ticket experiment."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import INK, MUTED, EndLabel
from lth_runner.runs.report.published import Published, counterpart
from lth_runner.runs.report.rows import ACCURACY, TICKET, Run, density, mean, number, std
from lth_runner.runs.report.verdict import Level, Verdict, judge
from lth_runner.runs.report.wording import accuracy, kept, removed

WIDTH, HEIGHT = 10.0, 6.25  # inches: 1600 x 1000 pixels
MAX_RUNS_WITH_CONTROLS = 3
PERCENT = 100.0
DASHED: drawing.LineStyle = (0, (5, 1.5))


@dataclass(frozen=True)
class Line:
    """One arm of one run: x is density in %, y accuracy in %, both by growing sparsity."""

    label: str
    colour: str
    marker: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    spread: tuple[float, ...]
    seeds: tuple[tuple[tuple[float, float], ...], ...]
    bold: bool
    style: drawing.LineStyle


def draw_curve(
    runs: Sequence[Run], path: str | Path, *, labels: Sequence[str] | None = None
) -> Path:
    """Writes the curve of one run, or several overlaid, as a PNG of 1600 x 1000 pixels."""
    target = Path(path)
    target.write_bytes(drawing.png(curve_figure(runs, labels=labels)))
    return target


def curve_figure(runs: Sequence[Run], *, labels: Sequence[str] | None = None) -> Figure:
    """One run: ticket, controls, dense band, mark; several: tickets (and controls of up to 3)."""
    names = list(labels) if labels is not None else [run.name for run in runs]
    figure = drawing.new_figure(WIDTH, HEIGHT)
    verdicts = [judge(run) for run in runs]
    lines = _lines(runs, names)
    alone = len(runs) == 1
    theirs = counterpart(runs[0]) if alone else None
    lines += [] if theirs is None else [_published_line(theirs)]
    axes = figure.add_axes((0.085, 0.125, 0.7, 0.70))
    drawing.tidy(axes, xlabel="weights remaining (%, log scale)", ylabel="test accuracy (%)")
    drawn = [line for line in lines if line.x]
    if not drawn:
        axes.text(0.5, 0.5, "no finished round yet", transform=axes.transAxes, ha="center")
        return figure
    for line in drawn:
        _draw(axes, line, seeds=alone, band=len(runs) <= MAX_RUNS_WITH_CONTROLS)
    if theirs is not None:
        _published_bars(axes, theirs)
    drawing.density_axis(axes, [x / PERCENT for line in drawn for x in line.x])
    axes.set_ylim(*_limits(drawn, verdicts))
    ends = [_end(line, axes.get_ylim()[0], width=20 if alone else 32) for line in drawn]
    dense = verdicts[0].dense
    if alone and dense is not None and dense.mean is not None:
        ends.append(_dense_band(axes, dense, verdicts[0].tolerance))
    size = 10.0 if len(ends) <= 14 else 7.5
    longest = max(len(text) for end in ends for text in end.text.split("\n"))
    axes.set_position((0.085, 0.125, 0.87 - 0.00082 * size * longest, 0.70))
    for verdict, line_colour in zip(verdicts, _run_colours(lines, runs), strict=True):
        _mark(axes, verdict, line_colour, alone=alone)
    drawing.end_labels(axes, ends, size=size)
    if alone:
        drawing.title(axes, _shortened(names[0], 70), _detail(runs[0]))
    else:
        drawing.title(axes, f"{len(runs)} runs", "dots ringed: largest sparsity that matches dense")
    return figure


def _lines(runs: Sequence[Run], names: Sequence[str]) -> list[Line]:
    lines = []
    for index, (run, name) in enumerate(zip(runs, names, strict=True)):
        controls = run.controls if len(runs) <= MAX_RUNS_WITH_CONTROLS else ()
        for position, arm in enumerate((TICKET, *controls)):
            alone = len(runs) == 1
            label = arm if alone else name if arm == TICKET else f"{name} · {arm}"
            shade = position if alone else index
            lines.append(_line(run, arm, label, shade=shade, bold=arm == TICKET))
    return lines


def _line(run: Run, arm: str, label: str, *, shade: int, bold: bool) -> Line:
    found: list[tuple[float, float, float]] = []
    seeds: dict[int, list[tuple[float, float]]] = {}
    for round in run.rounds(arm):
        points = [
            (row["seed"], PERCENT * x, PERCENT * y)
            for row in run.at(arm, round)
            if (x := density(row)) and (y := number(row.get(ACCURACY))) is not None
        ]
        if points:
            x = mean(point[1] for point in points)
            values = [point[2] for point in points]
            found.append((x, mean(values), std(values) or 0.0))
            for seed, own_x, y in points:
                seeds.setdefault(seed, []).append((own_x, y))
    found.sort(reverse=True)
    columns = tuple(zip(*found, strict=True)) if found else ((), (), ())
    return Line(
        label=label,
        colour=drawing.colour(shade),
        marker=drawing.marker(shade),
        x=columns[0],
        y=columns[1],
        spread=columns[2],
        seeds=tuple(tuple(sorted(points, reverse=True)) for points in seeds.values()),
        bold=bold,
        style=drawing.style(shade) if bold else DASHED,
    )


def _published_line(series: Published) -> Line:
    return Line(
        label=f"published: {series.label}",
        colour=INK,
        marker="_",
        x=tuple(PERCENT * point.density for point in series.points),
        y=tuple(PERCENT * point.accuracy for point in series.points),
        spread=(0.0,) * len(series.points),
        seeds=(),
        bold=False,
        style=(0, (1, 1)),
    )


def _published_bars(axes: Axes, series: Published) -> None:
    """Lowest to highest, and below the axes whose numbers they are."""
    for point in series.points:
        if point.low is not None and point.high is not None:
            x, low, high = (PERCENT * value for value in (point.density, point.low, point.high))
            axes.plot([x, x], [low, high], color=INK, linewidth=1.2, zorder=3.5)
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    text = f"published: {series.citation}; {series.title}; {series.statistic}"
    figure.text(0.085, 0.012, text, color=MUTED, fontsize=8, parse_math=False)


def _draw(axes: Axes, line: Line, *, seeds: bool, band: bool) -> None:
    if band and len(line.seeds) > 1:
        low = [y - s for y, s in zip(line.y, line.spread, strict=True)]
        high = [y + s for y, s in zip(line.y, line.spread, strict=True)]
        axes.fill_between(line.x, low, high, color=line.colour, alpha=0.13, linewidth=0)
    if seeds and len(line.seeds) > 1:
        for seed in line.seeds:
            axes.plot(
                *zip(*seed, strict=True), color=line.colour, alpha=0.3, linewidth=0.7, zorder=2
            )
    axes.plot(
        line.x,
        line.y,
        color=line.colour,
        linewidth=2.3 if line.bold else 1.6,
        linestyle=line.style,
        marker=line.marker,
        markersize=5.5 if line.bold else 4.5,
        markeredgecolor="white",
        markeredgewidth=0.7,
        zorder=4 if line.bold else 3,
    )


def _limits(lines: Sequence[Line], verdicts: Sequence[Verdict]) -> tuple[float, float]:
    """All of the ticket; of a control that collapses, three times the depth the ticket falls."""
    every = [y for line in lines for y in line.y]
    spreads = [
        edge
        for line in lines
        for y, s in zip(line.y, line.spread, strict=True)
        for edge in (y - s, y + s)
    ]
    top = max(spreads)
    tickets = [
        y - s for line in lines if line.bold for y, s in zip(line.y, line.spread, strict=True)
    ]
    dense = [PERCENT * v.dense.mean for v in verdicts if v.dense and v.dense.mean is not None]
    level = max(dense, default=max(every))
    fall = max(level - min(tickets, default=level), 2.0)
    tolerances = [PERCENT * verdict.tolerance for verdict in verdicts]
    lowest = min(*spreads, level - max(tolerances))
    bottom = max(lowest, level - 3 * fall)
    pad = 0.04 * max(top - bottom, 0.5)
    return bottom - pad, min(top + pad, 100.5) if top <= 100 else top + pad


def _end(line: Line, bottom: float, *, width: int) -> EndLabel:
    """The label of a line; one that leaves the axis below says where it ends."""
    text = _wrapped(line.label, width)
    if line.y[-1] < bottom:
        text += f"\n(falls to {line.y[-1]:.1f} %)"
    return EndLabel(line.x[-1], line.y[-1], text, line.colour)


def _dense_band(axes: Axes, dense: Level, tolerance: float) -> EndLabel:
    assert dense.mean is not None
    level, spread = PERCENT * dense.mean, PERCENT * (dense.std or 0.0)
    axes.axhspan(level - spread, level + spread, color=MUTED, alpha=0.16, linewidth=0, zorder=1)
    axes.axhline(level, color=MUTED, linewidth=1.2, zorder=1.5)
    axes.axhline(level - PERCENT * tolerance, color=MUTED, linewidth=0.9, linestyle=":", zorder=1.5)
    text = f"dense {accuracy(dense, 1)}\ndotted: −{PERCENT * tolerance:g} points"
    return EndLabel(axes.get_xlim()[1], level, text, MUTED)


def _mark(axes: Axes, verdict: Verdict, line_colour: str, *, alone: bool) -> None:
    best = verdict.largest(TICKET)
    if best is None or best.mean is None:
        return
    x, y = PERCENT * best.density, PERCENT * best.mean
    axes.plot(
        [x], [y], "o", markersize=13, markerfacecolor="none", markeredgecolor=line_colour,
        markeredgewidth=1.6, zorder=5,
    )  # fmt: skip
    if not alone:
        return
    axes.axvline(x, color=line_colour, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1.5)
    fraction = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))[0]
    axes.annotate(
        f"matches down to {kept(best.density)} (sparsity {removed(best.density)})",
        xy=(x, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right" if fraction > 0.5 else "left",
        color=line_colour,
        fontsize=9.5,
        annotation_clip=False,
    )


def _run_colours(lines: Sequence[Line], runs: Sequence[Run]) -> list[str]:
    return [line.colour for line in lines if line.bold][: len(runs)]


def _detail(run: Run) -> str:
    replicates = run.num_replicates
    parts = [_named(run.config, "model"), _named(run.config, "dataset")]
    parts.append(f"{replicates} replicate{'s' if replicates != 1 else ''}")
    if replicates > 1:
        parts.append("line: mean, band: ± 1 standard deviation, thin: each seed")
    if run.state != "done":
        parts.append(run.state)
    return _shortened(" · ".join(part for part in parts if part), 110)


def _named(config: Mapping[str, object], key: str) -> str:
    node = config.get(key)
    if isinstance(node, Mapping):
        return str(node.get("name") or str(node.get("_target_", "")).rsplit(".", 1)[-1])
    return "" if node is None else str(node)


def _wrapped(label: str, width: int) -> str:
    """At most two lines; what is cut is cut from the second."""
    lines = textwrap.wrap(label, width, break_on_hyphens=False) or [""]
    return "\n".join(lines if len(lines) <= 2 else [lines[0], f"{lines[1][: width - 1]}…"])


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
