"""One picture of all claims about shares: how far each lies from what its rule asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from judged import Row
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lth_runner.runs.pages import drawing
from lth_runner.runs.pages.drawing import FAINT, INK, MUTED

LOOKS = {  # a verdict's colour and its marker
    "shown": (drawing.COLOURS[0], "o"),
    "refuted": (drawing.COLOURS[1], "s"),
    "undecided": (MUTED, "D"),
}
EDGE = 3.0  # points: what lies beyond is drawn at the edge
LONGEST = 78  # characters of a claim
ROW, COLUMN = 0.118, 7.2  # inches


def forest(topics: Mapping[str, Sequence[Row]]) -> Figure | None:
    """Draws each claim's difference less its limit, in points, with its 95 % interval.

    Right of 0 is what the claim says. Claims of other units, with two limits or without an
    interval have no place in it.
    """
    lines: list[tuple[str, Row | None]] = []
    for topic, rows in topics.items():
        drawn = [row for row in rows if row.found is not None and row.found.lead is not None
                 and row.found.lead.low is not None]  # fmt: skip
        if drawn:
            lines += [(topic, None), *((row.text, row) for row in drawn)]
    if not lines:
        return None
    half = (len(lines) + 1) // 2
    half -= lines[half - 1][1] is None  # a heading goes with what it heads
    num = max(half, len(lines) - half)
    figure = drawing.new_figure(2 * COLUMN, ROW * num + 0.9)
    for place, part in enumerate((lines[:half], lines[half:])):
        axes = figure.add_axes((0.285 + 0.5 * place, 0.035, 0.2, 0.945))
        _column(axes, part, num)
    return figure


def _column(axes: Axes, lines: Sequence[tuple[str, Row | None]], num: int) -> None:
    for place, (text, row) in enumerate(lines):
        heading = row is None
        said = text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
        axes.text(-0.03, place, said, transform=axes.get_yaxis_transform(), ha="right", va="center",
                  fontsize=6.1, color=INK, weight="bold" if heading else "normal")  # fmt: skip
        if row is None or row.found is None or row.found.lead is None:
            continue
        lead = row.found.lead
        colour, marker = LOOKS[row.verdict]
        low, middle, high = (
            max(-EDGE, min(EDGE, 100 * (end if end is not None else lead.difference)))
            for end in (lead.low, lead.difference, lead.high)
        )
        axes.plot([low, high], [place, place], color=colour, linewidth=1.1, solid_capstyle="butt")
        axes.plot(middle, place, marker, color=colour, markersize=2.8)
    axes.axvline(0, color=MUTED, linewidth=0.8)
    axes.set(xlim=(-EDGE, EDGE), ylim=(num - 0.3, -0.7), yticks=[])
    axes.grid(axis="x", color=FAINT, linewidth=0.5)
    axes.tick_params(labelsize=7, colors=MUTED, labelcolor=INK)
    axes.set_xlabel("points beyond what the rule asks for", fontsize=7.5, color=INK)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)
    for verdict, (colour, marker) in LOOKS.items():
        axes.plot([], [], marker, color=colour, markersize=4, label=verdict, linestyle="none")
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        fontsize=6.5,
        frameon=False,
        ncols=3,
        borderpad=0,
        columnspacing=1,
    )
