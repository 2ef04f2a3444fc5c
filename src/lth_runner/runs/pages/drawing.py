"""The look that every figure shares: colours, axes, labels at the ends of lines."""

from __future__ import annotations

import io
import itertools
import math
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, NullLocator

# Okabe and Ito's palette, told apart by colour-blind readers too; the first is the ticket's.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
INK, MUTED, FAINT = "#1d2433", "#6b7280", "#d8dce3"
DPI = 160
TICK_INCHES = 0.56  # between two labels of an axis
LONGEST_LINE = 52  # characters of a label beside a picture, half of its width

LineStyle = str | tuple[float, tuple[float, ...]]


@dataclass(frozen=True)
class EndLabel:
    """A text right of the axes for the line that ends at (x, y)."""

    x: float
    y: float
    text: str
    colour: str


def colour(index: int) -> str:
    """Picks the colour of a line; they begin anew after the last."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Picks the marker of a line; they begin anew after the last."""
    return MARKERS[index % len(MARKERS)]


def style(index: int) -> LineStyle:
    """Picks the dashes of a line: solid for the first round of colours, then others."""
    styles: tuple[LineStyle, ...] = ("-", (0, (3, 1)), (0, (1, 1)))
    return styles[index // len(COLOURS) % len(styles)]


def shade(index: int, number: int) -> str:
    """Picks the colour of one of so many in their order, the last the darkest."""
    place = 0.15 + 0.75 * index / max(number - 1, 1)
    return str(matplotlib.colors.to_hex(matplotlib.colormaps["viridis_r"](place)))


def new_figure(width: float, height: float) -> Figure:
    """Makes a figure of width x height inches that no global state knows of."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes, *, xlabel: str, ylabel: str) -> None:
    """Gives axes their labels, a faint grid and no frame."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=9.5, length=3)
    axes.grid(visible=True, color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(xlabel, color=INK, fontsize=10.5, labelpad=6)
    axes.set_ylabel(ylabel, color=INK, fontsize=10.5, labelpad=6)


def density_axis(
    axes: Axes,
    densities: Iterable[float],
    *,
    asked: Iterable[float] = (),
    write: Callable[[float], str] = lambda density: f"{100 * density:.3g}",
) -> None:
    """Weights remaining in %, logarithmic, falling to the right; ticks where rounds are.

    First and last are always labelled, then those `asked` for, then what has room between.
    """
    found = sorted({100 * density for density in densities if density > 0}, reverse=True)
    if not found:  # nothing is left in any round: no place on a logarithmic axis
        return
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    first, last = math.log(found[0]), math.log(found[-1])
    pad = max(0.03 * (first - last), 0.05)  # room for a single round, and for bars side by side
    axes.set_xlim(math.exp(first + pad), math.exp(last - pad))
    inches = axes.get_position().width * figure_of(axes).get_size_inches()[0]
    gap = (first - last + 2 * pad) * TICK_INCHES / inches
    ticks: list[float] = []
    for value in (found[0], found[-1], *(100 * density for density in asked), *found):
        is_inside = last - 1e-9 <= math.log(value) <= first + 1e-9
        if is_inside and all(abs(math.log(value / tick)) >= gap for tick in ticks):
            ticks.append(value)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.set_xticklabels([write(tick / 100) for tick in ticks])


def folded(labels: Sequence[str]) -> tuple[list[str], int, int]:
    """Folds what stands beside a picture into lines that leave room for it.

    Returns the labels, the characters of the longest line, and the lines of the tallest label.
    """
    found = [textwrap.fill(label, LONGEST_LINE, break_on_hyphens=False) for label in labels]
    lines = [label.splitlines() or [""] for label in found]
    return found, max(len(one) for own in lines for one in own), max(map(len, lines))


def figure_of(axes: Axes) -> Figure:
    """Returns the figure that axes are of."""
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    return figure


def end_labels(axes: Axes, labels: Sequence[EndLabel], *, size: float = 10) -> None:
    """Texts in the right margin at the height of their lines, moved apart where they touch."""
    box = axes.get_window_extent()
    line = size * 1.25 * figure_of(axes).dpi / 72 / box.height  # one text line, of the axes
    ordered = sorted(labels, key=lambda label: label.y)
    wanted = [_axes_height(axes, label) for label in ordered]
    heights = [line * (1 + label.text.count("\n")) for label in ordered]
    for label, target, place in zip(ordered, wanted, spread(wanted, heights), strict=True):
        axes.annotate(
            label.text, xy=(1.012, target), xytext=(1.05, place), xycoords="axes fraction",
            textcoords="axes fraction", color=label.colour, fontsize=size, va="center",
            annotation_clip=False, parse_math=False, linespacing=1.15,
            arrowprops={"arrowstyle": "-", "color": label.colour, "linewidth": 0.8, "shrinkA": 2,
                        "shrinkB": 0, "relpos": (0, 0.5)},
        )  # fmt: skip


def _axes_height(axes: Axes, label: EndLabel) -> float:
    pixels = axes.transData.transform((label.x, label.y))
    return min(1.0, max(0.0, float(axes.transAxes.inverted().transform(pixels)[1])))


def spread(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Centres near `wanted` (ascending), none closer than the mean of the two heights.

    Touching labels form a block that is centred on what its members want.
    """
    blocks: list[tuple[list[int], float]] = []  # members, lower edge
    for index in range(len(wanted)):
        members, low = [index], wanted[index] - heights[index] / 2
        while blocks and blocks[-1][1] + sum(heights[i] for i in blocks[-1][0]) > low:
            members = blocks.pop()[0] + members
            offsets = itertools.accumulate((heights[j] for j in members[:-1]), initial=0)
            low = sum(
                wanted[i] - heights[i] / 2 - offset
                for i, offset in zip(members, offsets, strict=True)
            ) / len(members)
        blocks.append((members, low))
    centres = [0.0] * len(wanted)
    for members, low in blocks:
        for index in members:
            centres[index] = low + heights[index] / 2
            low += heights[index]
    return centres


def title(axes: Axes, text: str, detail: str) -> None:
    """Writes a bold title with a muted line below it, both left of the axes' top."""
    lines = ((text, 44, INK, 13, "bold"), (detail, 26, MUTED, 10, "normal"))
    for words, y, ink, size, weight in lines:
        axes.annotate(words, xy=(0, 1), xytext=(0, y), xycoords="axes fraction",
                      textcoords="offset points", color=ink, fontsize=size, fontweight=weight,
                      parse_math=False, annotation_clip=False)  # fmt: skip


def _keep_dollars(figure: Figure) -> None:
    """Has names in titles, legends and labels of axes no formulas between dollar signs."""
    texts = [text for legend in figure.findobj(Legend) for text in legend.get_texts()]
    for axes in figure.axes:
        texts += [axes.xaxis.label, axes.yaxis.label]
        texts += [text for text in axes.get_children() if isinstance(text, Text)]
    for text in texts:
        text.set_parse_math(False)


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """Writes a figure as the bytes of a PNG."""
    _keep_dollars(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def svg(figure: Figure, name: str) -> str:
    """Writes a figure as an <svg> element; `name` keeps its ids apart from other figures'."""
    _keep_dollars(figure)
    buffer = io.StringIO()
    # The salt is only read from the global settings; without one the ids change from call to call.
    with matplotlib.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
