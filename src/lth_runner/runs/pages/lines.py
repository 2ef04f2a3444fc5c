"""Lines with bands, by the one painter of every figure over a density, a step or a place."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from lth_runner.runs.evidence.means import Points
from lth_runner.runs.evidence.verdict import Level
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages.drawing import INK, MUTED, EndLabel, LineStyle
from lth_runner.values.measure import Measure

PERCENT = 100.0
DENSITY = "weights remaining (%, log scale)"
SPARSITY = "sparsity (% of the weights removed, log scale of what remains)"
DASHED, DOTTED = "--", ":"
SMALL_FONT = 7.5


@dataclass(frozen=True)
class Line:
    """Means with a band of one standard deviation; `seeds`: each replicate as a thin line.

    With `bars`, or without a style, each point has a bar in place of the band.
    """

    label: str
    colour: str
    x: tuple[float, ...] = ()
    y: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    style: LineStyle = "-"
    marker: str = "o"
    width: float = 1.8
    seeds: tuple[tuple[tuple[float, float], ...], ...] = ()
    bars: bool = False
    hollow: bool = False

    def through(self, points: Iterable[Sequence[float]]) -> Line:
        """Returns the same line through points of (x, mean, standard deviation)."""
        columns = tuple(zip(*points, strict=True)) or ((), (), ())
        return replace(self, x=columns[0], y=columns[1], spread=columns[2])

    def scaled(self, factor: float) -> Line:
        """Returns the same line with its values in another unit."""
        y, spread = (tuple(factor * value for value in own) for own in (self.y, self.spread))
        return replace(self, y=y, spread=spread)

    def edge(self, side: int) -> list[float]:
        """Lists the upper (1) or lower (-1) edge of the band."""
        return [y + side * s for y, s in zip(self.y, self.spread, strict=True)]


@dataclass(frozen=True)
class Reference:
    """A horizontal line to compare with, with its band, and a dotted one beside it."""

    y: float
    label: str = ""
    spread: float = 0.0
    dotted: float | None = None
    style: LineStyle = DOTTED


def points_of(levels: Iterable[Level], measure: Measure) -> Points:
    """Places levels that have a value by their density (%), in the units of the axis."""
    return [
        (PERCENT * one.density, measure.scale * one.mean, measure.scale * (one.std or 0.0))
        for one in levels
        if one.mean is not None
    ]


SetAxis = Callable[[Axes, Sequence[Line]], None]


def by_density(axes: Axes, lines: Sequence[Line]) -> None:
    """Sets the x axis of figures over the weights that remain."""
    drawing.density_axis(axes, [x / PERCENT for line in lines for x in line.x])


def by_count(axes: Axes, lines: Sequence[Line]) -> None:
    """Sets the x axis of steps and places: whole numbers where all are whole."""
    if all(x == int(x) for line in lines for x in line.x) and axes.get_xscale() == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))


@dataclass(frozen=True)
class Frame:
    """The axes that lines are drawn into, and what is behind them.

    `limits` are those of y. Labels of lines are broken at `wrap` letters; one that leaves the axes
    says where it ends, in `unit`.
    """

    ylabel: str
    xlabel: str = DENSITY
    logarithmic_x: bool = False
    logarithmic_y: bool = False
    set_x: SetAxis = by_density
    set_y: SetAxis | None = None
    limits: tuple[float, float] | None = None
    references: Sequence[Reference] = ()
    wrap: int = 0
    unit: str = ""


@dataclass(frozen=True)
class Size:
    """A figure in inches, the box of its axes in it, and how its labels are set."""

    inches: tuple[float, float]
    box: tuple[float, float, float, float]
    font: float
    most: int  # labels that have room at this size of font


LARGE = Size((10.0, 6.25), (0.085, 0.125, 0.7, 0.70), 10.0, 14)  # 1600 x 1000 pixels
MOST_NAMED = 80  # lines that have their names at their ends
SMALL = Size((9.0, 4.2), (0.085, 0.15, 0.70, 0.78), 9.5, 9)


def line_figure(
    lines: Iterable[Line], frame: Frame, *, size: Size = SMALL, title: tuple[str, str] = ("", "")
) -> Figure | None:
    """Draws some lines, labelled at their ends; None where there are but dots."""
    drawn = [line for line in lines if line.x]
    if not any(len(set(line.x)) > 1 for line in drawn):
        return None
    figure = drawing.new_figure(*size.inches)
    axes = figure.add_axes(size.box)
    paint(axes, drawn, frame)
    _label_ends(axes, drawn, frame, size)
    if title[0]:
        drawing.title(axes, *title)
    return figure


def paint(axes: Axes, lines: Sequence[Line], frame: Frame) -> None:
    """Draws lines and references into axes and sets the y axis."""
    drawing.tidy(axes, xlabel=frame.xlabel, ylabel=frame.ylabel)
    if frame.logarithmic_x:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    for line in lines:
        _draw_line(axes, line, logarithmic=frame.logarithmic_y)
    for one in frame.references:
        if one.spread:
            edges = (one.y - one.spread, one.y + one.spread)
            axes.axhspan(*edges, color=MUTED, alpha=0.16, linewidth=0, zorder=1)
        axes.axhline(one.y, color=MUTED, linewidth=1.2, linestyle=one.style, zorder=1.5)
        if one.dotted is not None:
            axes.axhline(one.dotted, color=MUTED, linewidth=0.9, linestyle=DOTTED, zorder=1.5)
    if frame.logarithmic_y:
        _logarithmic(axes)
    if frame.set_y is not None:
        frame.set_y(axes, lines)
    if frame.limits is not None:
        axes.set_ylim(*frame.limits)


def _draw_line(axes: Axes, line: Line, *, logarithmic: bool) -> None:
    """Draws the band or the bars, the replicates and the line."""
    if any(line.spread) and (line.bars or not line.style):
        axes.errorbar(line.x, line.y, yerr=line.spread, fmt="none", ecolor=line.colour,
                      elinewidth=1.1 if line.bars else None, capsize=3)  # fmt: skip
    elif any(line.spread):
        low, high = line.edge(-1), line.edge(1)
        if logarithmic:  # a band that reaches 0 has no lower edge to draw
            low = [edge if edge > 0 else middle for edge, middle in zip(low, line.y, strict=True)]
        axes.fill_between(line.x, low, high, color=line.colour, alpha=0.13, linewidth=0)
    for seed in line.seeds if len(line.seeds) > 1 else ():
        axes.plot(*zip(*seed, strict=True), color=line.colour, alpha=0.3, linewidth=0.7, zorder=2)
    axes.plot(
        line.x, line.y, label=line.label, color=line.colour, linestyle=line.style,
        marker=line.marker,
        linewidth=line.width, markersize=5.5 if line.width > 2 else 4.5,
        markerfacecolor="white" if line.hollow else line.colour,
        markeredgecolor=line.colour if line.hollow else "white",
        markeredgewidth=1.0 if line.hollow else 0.7, zorder=4 if line.width > 2 else 3,
    )  # fmt: skip


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log")
    plain = FuncFormatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_major_formatter(plain)
    axes.tick_params(axis="y", which="minor", labelsize=8, labelcolor=INK)
    bottom, top = axes.get_ylim()
    axes.yaxis.set_minor_formatter(plain if top < 12 * bottom else NullFormatter())


def _label_ends(axes: Axes, lines: Sequence[Line], frame: Frame, size: Size) -> None:
    """Sets the x axis and writes the labels right of the axes, which make room for them."""
    bottom, top = sorted(axes.get_ylim())  # settled, as labels are placed by them
    shown = lines
    if len(lines) > MOST_NAMED:  # which nobody could read: the table beside it names them
        lines = []
    texts = [_end(line, bottom, top, frame) for line in lines]
    named = [one for one in frame.references if one.label]
    font = size.font if len(texts) + len(named) <= size.most else SMALL_FONT
    everything = [*texts, *(one.label for one in named)]
    longest = max((len(part) for text in everything for part in text.split("\n")), default=0)
    left, low, width, height = axes.get_position().bounds
    room = 0.87 - 0.0082 * font / size.inches[0] * longest
    axes.set_position((left, low, min(width, room) if size is SMALL else room, height))
    frame.set_x(axes, shown)
    right = axes.get_xlim()[1]
    ends = [
        EndLabel(x.x[-1], x.y[-1], text, x.colour) for x, text in zip(lines, texts, strict=True)
    ]
    ends += [EndLabel(right, one.y, one.label, MUTED) for one in named]
    drawing.end_labels(axes, ends, size=font)


def _end(line: Line, bottom: float, top: float, frame: Frame) -> str:
    """Labels the end of a line; one that leaves the axes says where it ends."""
    text, y = line.label, line.y[-1]
    if frame.wrap:  # at most two lines; what is cut is cut from the second
        parts = textwrap.wrap(text, frame.wrap, break_on_hyphens=False) or [""]
        cut = [parts[0], f"{parts[1][: frame.wrap - 1]}…"] if len(parts) > 2 else parts
        text = "\n".join(cut)
    if not bottom <= y <= top:
        text += f"\n({'falls' if y < bottom else 'rises'} to {y:.1f}{frame.unit})"
    return text
