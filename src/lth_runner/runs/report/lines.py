"""Lines with bands, by the one painter of every figure over a density, a step or a place."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import INK, MUTED, EndLabel, LineStyle
from lth_runner.values.measure import Measure

PERCENT = 100.0
DENSITY = "weights remaining (%, log scale)"
SPARSITY = "sparsity (% of the weights removed, log scale of what remains)"


@dataclass(frozen=True)
class Size:
    """A figure in inches, the box of its axes in it, and how its labels are set."""

    inches: tuple[float, float]
    box: tuple[float, float, float, float]
    font: float
    most: int  # labels that have room at this size of font


LARGE = Size((10.0, 6.25), (0.085, 0.125, 0.7, 0.70), 10.0, 14)  # 1600 x 1000 pixels
SMALL = Size((9.0, 4.2), (0.085, 0.15, 0.70, 0.78), 9.5, 9)
SMALL_FONT = 7.5


@dataclass(frozen=True)
class Line:
    """Means with a band of one standard deviation; `seeds`: each replicate as a thin line."""

    label: str
    colour: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    spread: tuple[float, ...] = ()
    style: LineStyle = "-"
    marker: str = "o"
    width: float = 1.8
    seeds: tuple[tuple[tuple[float, float], ...], ...] = ()

    def through(self, points: Iterable[Sequence[float]]) -> Line:
        """Returns the same line through points of (x, mean, standard deviation)."""
        columns = tuple(zip(*points, strict=True)) or ((), (), ())
        return replace(self, x=columns[0], y=columns[1], spread=columns[2])


@dataclass(frozen=True)
class Scale:
    """How the axes are written: values times `factor`; logarithmic where it says so."""

    ylabel: str
    xlabel: str = DENSITY
    factor: float = 1.0
    logarithmic_x: bool = False
    logarithmic_y: bool = False
    unit: str = ""


@dataclass(frozen=True)
class Reference:
    """A horizontal line to compare with, with its band, and a dotted one beside it."""

    y: float
    label: str
    spread: float = 0.0
    dotted: float | None = None
    style: LineStyle = ":"


def is_curve(lines: Iterable[Line]) -> bool:
    """Returns whether there is more to draw than dots."""
    return any(len(set(line.x)) > 1 for line in lines)


def by_density(axes: Axes, lines: Sequence[Line]) -> None:
    """Sets the x axis of figures over the weights that remain."""
    drawing.density_axis(axes, [x / PERCENT for line in lines for x in line.x])


def by_count(axes: Axes, lines: Sequence[Line]) -> None:
    """Sets the x axis of steps and places: whole numbers where all are whole."""
    if all(x == int(x) for line in lines for x in line.x) and axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def line_figure(
    lines: Iterable[Line],
    scale: Scale,
    *,
    set_x: Callable[[Axes, Sequence[Line]], None] = by_density,
    references: Sequence[Reference] = (),
    size: Size = SMALL,
    limits: tuple[float, float] | None = None,
    wrap: int = 0,
    title: tuple[str, str] = ("", ""),
) -> Figure | None:
    """Draws some lines, labelled at their ends; None where there are but dots."""
    drawn = [line for line in lines if line.x]
    if not is_curve(drawn):
        return None
    figure = drawing.new_figure(*size.inches)
    axes = figure.add_axes(size.box)
    paint(axes, drawn, scale, set_x=set_x, references=references, size=size, limits=limits,
          wrap=wrap)  # fmt: skip
    if title[0]:
        drawing.title(axes, *title)
    return figure


def paint(
    axes: Axes,
    lines: Sequence[Line],
    scale: Scale,
    *,
    set_x: Callable[[Axes, Sequence[Line]], None] = by_density,
    references: Sequence[Reference] = (),
    size: Size = SMALL,
    limits: tuple[float, float] | None = None,
    wrap: int = 0,
) -> None:
    """Draws lines and references into axes, sets both axes and labels the ends."""
    drawing.tidy(axes, xlabel=scale.xlabel, ylabel=scale.ylabel)
    if scale.logarithmic_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for line in lines:
        draw_line(axes, line, logarithmic=scale.logarithmic_y)
    for one in references:
        _draw_reference(axes, one)
    if scale.logarithmic_y:
        _logarithmic(axes)
    if limits is not None:
        axes.set_ylim(*limits)
    bottom, top = axes.get_ylim()  # settled, as labels are placed by them
    texts = [_end(line, bottom, top, scale.unit, wrap) for line in lines]
    font = size.font if len(texts) + len(references) <= size.most else SMALL_FONT
    everything = [*texts, *(one.label for one in references)]
    longest = max((len(part) for text in everything for part in text.split("\n")), default=0)
    left, low, width, height = axes.get_position().bounds
    room = 0.87 - 0.0082 * font / size.inches[0] * longest
    axes.set_position((left, low, min(width, room) if size is SMALL else room, height))
    set_x(axes, lines)
    right = axes.get_xlim()[1]
    ends = [
        EndLabel(x.x[-1], x.y[-1], text, x.colour) for x, text in zip(lines, texts, strict=True)
    ]
    ends += [EndLabel(right, one.y, one.label, MUTED) for one in references]
    drawing.end_labels(axes, ends, size=font)


def draw_line(axes: Axes, line: Line, *, logarithmic: bool = False) -> None:
    """Draws the band, the replicates and the line."""
    if any(line.spread) and not line.style:  # dots, not joined: each with a bar of its own
        axes.errorbar(line.x, line.y, yerr=line.spread, fmt="none", ecolor=line.colour, capsize=3)
    elif any(line.spread):
        low = [a - s for a, s in zip(line.y, line.spread, strict=True)]
        high = [a + s for a, s in zip(line.y, line.spread, strict=True)]
        if logarithmic:  # a band that reaches 0 has no lower edge to draw
            low = [edge if edge > 0 else middle for edge, middle in zip(low, line.y, strict=True)]
        axes.fill_between(line.x, low, high, color=line.colour, alpha=0.13, linewidth=0)
    for seed in line.seeds if len(line.seeds) > 1 else ():
        axes.plot(*zip(*seed, strict=True), color=line.colour, alpha=0.3, linewidth=0.7, zorder=2)
    axes.plot(
        line.x, line.y, color=line.colour, linestyle=line.style, marker=line.marker,
        linewidth=line.width, markersize=5.5 if line.width > 2 else 4.5,
        markeredgecolor="white", markeredgewidth=0.7, zorder=4 if line.width > 2 else 3,
    )  # fmt: skip


def _draw_reference(axes: Axes, one: Reference) -> None:
    if one.spread:
        edges = (one.y - one.spread, one.y + one.spread)
        axes.axhspan(*edges, color=MUTED, alpha=0.16, linewidth=0, zorder=1)
    axes.axhline(one.y, color=MUTED, linewidth=1.2, linestyle=one.style, zorder=1.5)
    if one.dotted is not None:
        axes.axhline(one.dotted, color=MUTED, linewidth=0.9, linestyle=":", zorder=1.5)


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(plain)
    axes.tick_params(axis="y", which="minor", labelsize=8, labelcolor=INK)
    bottom, top = axes.get_ylim()
    axes.yaxis.set_minor_formatter(plain if top < 12 * bottom else NullFormatter())


def _end(line: Line, bottom: float, top: float, unit: str, wrap: int) -> str:
    """Labels the end of a line; one that leaves the axes says where it ends."""
    text, y = line.label, line.y[-1]
    if wrap:  # at most two lines; what is cut is cut from the second
        parts = textwrap.wrap(text, wrap, break_on_hyphens=False) or [""]
        text = "\n".join(parts if len(parts) <= 2 else [parts[0], f"{parts[1][: wrap - 1]}…"])
    if not min(bottom, top) <= y <= max(bottom, top):
        text += f"\n({'falls' if y < min(bottom, top) else 'rises'} to {y:.1f}{unit})"
    return text


def limits(
    measure: Measure, lines: Sequence[Line], dense: Sequence[float], tolerance: float
) -> tuple[float, float]:
    """Finds limits for all lines; where one collapses, three times the depth of the bold ones.

    Everything in the units of the axis. Where lower is better, the same upside down.
    """
    sign = 1 if measure.better == "higher" else -1
    every = [sign * y for line in lines for y in line.y]
    edges = [
        sign * y + side * s
        for line in lines
        for y, s in zip(line.y, line.spread, strict=True)
        for side in (-1, 1)
    ]
    bold = [
        sign * y - s
        for line in lines
        if line.width > 2
        for y, s in zip(line.y, line.spread, strict=True)
    ]
    top = max(edges)
    level = max((sign * value for value in dense), default=max(every))
    least = 2.0 if measure.unit == "%" else 0.02 * abs(level)
    fall = max(level - min(bold, default=level), least)
    lowest = min(*edges, level - tolerance)
    bottom = lowest if level - lowest < 6 * fall else level - 3 * fall
    pad = 0.04 * max(top - bottom, 0.25 * least)
    bottom, high = bottom - pad, top + pad
    if measure.unit == "%" and sign > 0 and top <= 100:
        high = min(high, 100.5)
    return (bottom, high) if sign > 0 else (-high, -bottom)
