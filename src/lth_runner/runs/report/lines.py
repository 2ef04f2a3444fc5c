"""Fields of the rows drawn as lines: against density, within a layer, a list, or a step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import INK, MUTED, EndLabel, LineStyle
from lth_runner.runs.report.layers import tail
from lth_runner.runs.report.rows import TICKET, Row, Run, aggregate, density, mean, number, std
from lth_runner.runs.report.verdict import Verdict

PERCENT = 100.0
SIZE = (9.0, 4.2)  # inches
BOX = (0.085, 0.15, 0.70, 0.78)  # the axes inside the figure; end labels stand right of it
DENSITY = "weights remaining (%, log scale)"
MAX_SHADES = 4  # rounds of one figure
Point = tuple[float, float, float]  # x, mean, standard deviation


@dataclass(frozen=True)
class Curve:
    """A field of an arm against density; `style` is the line style, "" the marker for none."""

    arm: str
    field: str
    label: str
    colour: str
    style: LineStyle = "-"
    marker: str = "o"
    width: float = 1.8


@dataclass(frozen=True)
class Scale:
    """How the axes are written: values times `factor`; logarithmic, or linear for None."""

    ylabel: str
    xlabel: str = DENSITY
    factor: float = 1.0
    logarithmic_x: bool = False
    logarithmic_y: bool = False


def new_axes(*, xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = drawing.new_figure(*SIZE)
    axes = figure.add_axes(BOX)
    drawing.tidy(axes, xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def kept_label(run: Run, round: int) -> str:
    """What a round keeps, and whether it is the dense one: '51.2 %'."""
    found = [value for row in run.at(TICKET, round) if (value := density(row)) is not None]
    kept = f"{PERCENT * mean(found):.3g} %" if found else f"round {round}"
    return f"{kept}, dense" if round == run.dense_round else kept


def against_density(
    run: Run,
    curves: Sequence[Curve],
    *,
    ylabel: str = "",
    scale: Scale | None = None,
    level: tuple[float, str] | None = None,
) -> Figure | None:
    """Means over the replicates, bands of one standard deviation; None where no row has a field."""
    scale = scale or Scale(ylabel)
    summaries = aggregate(run.rows)
    drawn = []
    for curve in curves:
        points = [
            (
                PERCENT * (1 - summary.sparsity),
                scale.factor * summary.mean[curve.field],
                scale.factor * (summary.std[curve.field] or 0.0),
            )
            for round in run.rounds(curve.arm)
            if (summary := summaries[curve.arm, round]).sparsity is not None
            and curve.field in summary.mean
        ]
        drawn.append((curve, sorted(points, reverse=True)))
    figure, axes = new_axes(xlabel=DENSITY, ylabel=scale.ylabel)
    densities = [x / PERCENT for _, points in drawn for x, _, _ in points]
    if not densities:
        return None
    ends = _plot(axes, drawn, scale)
    drawing.density_axis(axes, densities)
    _finish(axes, ends, level)
    return figure


def along_list(
    run: Run, verdict: Verdict, field: str, x: Callable[[Row, int], Sequence[float]], scale: Scale,
    level: tuple[float, str] | None = None,
) -> Figure | None:  # fmt: skip
    """A list of each training by its `x`: some rounds of the ticket, controls of the marked one."""
    series = {
        (arm, round): found
        for arm in run.arms
        for round in run.rounds(arm)
        if (found := _list_means(run.at(arm, round), field, x, scale.factor))
    }
    rounds = shown_rounds([round for arm, round in series if arm == TICKET], verdict)
    marked = marked_round(rounds, verdict)
    keys = [(TICKET, round) for round in rounds]
    keys += [
        (arm, marked) for arm in run.controls if marked is not None and (arm, marked) in series
    ]
    if not keys:
        return None
    shades = matplotlib.colormaps["viridis_r"]
    drawn = []
    for arm, round in keys:
        own, label = arm == TICKET, kept_label(run, round)
        place = 0.15 + 0.75 * rounds.index(round) / max(len(rounds) - 1, 1)
        shade = matplotlib.colors.to_hex(shades(place))
        colour = shade if own else drawing.colour(run.arms.index(arm))
        text = label if own else f"{arm} at {label}"
        style: LineStyle = "-" if own else "--"
        drawn.append((Curve(arm, field, text, colour, style, ""), series[arm, round]))
    figure, axes = new_axes(xlabel=scale.xlabel, ylabel=scale.ylabel)
    ends = _plot(axes, drawn, scale)
    if not scale.logarithmic_x and all(x == int(x) for _, points in drawn for x, _, _ in points):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(axes, ends, level)
    return figure


def by_layer(
    run: Run, verdict: Verdict, curves: Sequence[Curve], scale: Scale,
    level: tuple[float, str] | None = None,
) -> Figure | None:  # fmt: skip
    """An object by layer of each arm in the marked round, layers in their order."""
    having = {
        row["round"]
        for row in run.rows
        for curve in curves
        if row["arm"] == curve.arm and isinstance(row.get(curve.field), Mapping)
    }
    round = marked_round(sorted(having), verdict)
    if round is None:
        return None
    found = [(curve, _object_means(run.at(curve.arm, round), curve.field)) for curve in curves]
    names = list(dict.fromkeys(name for _, layers in found for name in layers))
    drawn = [
        (curve, [(float(names.index(n)), scale.factor * y, scale.factor * s)
                 for n, (y, s) in layers.items()])
        for curve, layers in found
    ]  # fmt: skip
    figure, axes = new_axes(xlabel="", ylabel=scale.ylabel)
    ends = _plot(axes, drawn, scale)
    axes.set_xlim(-0.4, max(len(names) - 0.6, 0.4))
    many = len(names) > 6
    axes.set_xticks(range(len(names)))
    axes.set_xticklabels(
        [tail(name).removesuffix(".weight") for name in names], parse_math=False,
        rotation=40 if many else 0, ha="right" if many else "center",
        fontsize=7 if len(names) > 24 else 8.5,
    )  # fmt: skip
    if many:
        axes.set_position((BOX[0], 0.27, BOX[2], 0.68))
    axes.annotate(
        kept_label(run, round) + " of the weights kept", xy=(0, 1.02), xycoords="axes fraction",
        color=MUTED, fontsize=9,
    )  # fmt: skip
    _finish(axes, ends, level)
    return figure


def by_step(
    run: Run, curves: Sequence[Curve], scale: Scale, level: tuple[float, str] | None = None
) -> Figure | None:
    """An object by step of the ticket's rows, step 0 on the same axis."""
    rows = [row for row in run.rows if row["arm"] == TICKET]
    drawn = []
    for curve in curves:
        layers = _object_means(rows, curve.field)
        points = [(float(n), scale.factor * y, scale.factor * s) for n, (y, s) in layers.items()]
        drawn.append((curve, sorted(points)))
    if not any(points for _, points in drawn):
        return None
    figure, axes = new_axes(xlabel=scale.xlabel, ylabel=scale.ylabel)
    ends = _plot(axes, drawn, scale)
    _finish(axes, ends, level)
    return figure


def marked_round(rounds: Sequence[int], verdict: Verdict) -> int | None:
    """Of these, the sparsest at which the ticket matches; else the last; None of none."""
    best = verdict.largest(TICKET)
    if best is not None and best.round in rounds:
        return best.round
    return max(rounds, default=None)


def shown_rounds(rounds: Iterable[int], verdict: Verdict) -> list[int]:
    """At most four of them: the first, the last, the marked one, and what lies between."""
    found = sorted(set(rounds))
    if len(found) <= MAX_SHADES:
        return found
    last = len(found) - 1
    kept = {found[0], found[last // 2], found[last]}
    marked = marked_round(found, verdict)
    return sorted(kept | ({marked} if marked is not None else set()))


def _list_means(
    rows: Iterable[Row], field: str, x: Callable[[Row, int], Sequence[float]], factor: float
) -> list[Point]:
    """By place, over the replicates whose lists are as long as the longest."""
    lists = [(row, row[field]) for row in rows if isinstance(row.get(field), list)]
    longest = max((len(values) for _, values in lists), default=0)
    whole = [(row, values) for row, values in lists if len(values) == longest]
    if not longest:
        return []
    places = x(whole[0][0], longest)
    points = []
    for i in range(min(longest, len(places))):
        found = [y for _, values in whole if (y := number(values[i])) is not None]
        if found:
            points.append((places[i], factor * mean(found), factor * (std(found) or 0.0)))
    return points


def _object_means(rows: Iterable[Row], field: str) -> dict[str, tuple[float, float]]:
    """Name -> mean and standard deviation over the replicates."""
    found: dict[str, list[float]] = {}
    for row in rows:
        layers = row.get(field)
        for name, raw in layers.items() if isinstance(layers, Mapping) else ():
            if (value := number(raw)) is not None:
                found.setdefault(str(name), []).append(value)
    return {name: (mean(values), std(values) or 0.0) for name, values in found.items()}


def _plot(
    axes: Axes, drawn: Iterable[tuple[Curve, Sequence[Point]]], scale: Scale
) -> list[EndLabel]:
    if scale.logarithmic_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ends = []
    for curve, points in drawn:
        if scale.logarithmic_y:
            points = [point for point in points if point[1] > 0]
        if not points:
            continue
        x, y, spreads = zip(*points, strict=True)
        low = [a - s for a, s in zip(y, spreads, strict=True)]
        high = [a + s for a, s in zip(y, spreads, strict=True)]
        if scale.logarithmic_y:  # a band that reaches 0 has no lower edge to draw
            low = [edge if edge > 0 else middle for edge, middle in zip(low, y, strict=True)]
        axes.fill_between(x, low, high, color=curve.colour, alpha=0.13, linewidth=0)
        axes.plot(
            x, y, color=curve.colour, linestyle=curve.style, marker=curve.marker,
            linewidth=curve.width, markersize=4.5, markeredgecolor="white", markeredgewidth=0.6,
        )  # fmt: skip
        ends.append(EndLabel(x[-1], y[-1], curve.label, curve.colour))
    if scale.logarithmic_y and ends:
        axes.set_yscale("log")
        plain = FuncFormatter(lambda value, _: f"{value:g}")
        axes.yaxis.set_major_formatter(plain)
        axes.tick_params(axis="y", which="minor", labelsize=8, labelcolor=INK)
        bottom, top = axes.get_ylim()
        axes.yaxis.set_minor_formatter(plain if top < 12 * bottom else NullFormatter())
    return ends


def _finish(axes: Axes, ends: list[EndLabel], level: tuple[float, str] | None) -> None:
    if level is not None:
        axes.axhline(level[0], color=MUTED, linewidth=1.2, linestyle=":")
        ends.append(EndLabel(axes.get_xlim()[1], level[0], level[1], MUTED))
    axes.get_ylim()  # settles the limits, which labels are placed by
    longest = max((len(line) for end in ends for line in end.text.split("\n")), default=0)
    left, bottom, width, height = axes.get_position().bounds
    axes.set_position((left, bottom, min(width, 0.87 - 0.0082 * longest), height))
    drawing.end_labels(axes, ends, size=9.5 if len(ends) <= 9 else 7.5)
