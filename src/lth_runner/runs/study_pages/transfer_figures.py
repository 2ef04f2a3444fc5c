"""The figures of carried tickets: sources by targets, and the curves of each target."""

from __future__ import annotations

import math

from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from lth_runner.runs.evidence.rows import TICKET
from lth_runner.runs.evidence.transfer import OWN, Transfer
from lth_runner.runs.evidence.verdict import Verdict
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.cells import draw_cells
from lth_runner.runs.pages.drawing import INK
from lth_runner.runs.pages.lines import Frame, Line, paint, points_of

WIDTH = 10.0  # inches
PANELS, TALL = 3, 2.75  # curves beside each other, inches of each


def matrix_figure(transfer: Transfer) -> Figure | None:
    """Draws sources by targets: the difference to the own ticket, and that to a random mask."""
    density, random = transfer.density, transfer.random
    if density is None:
        return None
    shown = [(OWN, "less the target's own ticket")]
    shown += [(random, f"less {say.arm_words(random)}")] if random else []
    rows, columns = transfer.sources, transfer.targets
    left = min(0.03 + 0.0085 * max(map(len, rows)), 0.5 / len(shown))
    wide = (0.98 - left * len(shown)) / len(shown)
    height = 0.9 + max(0.5 * len(rows), 1.0)
    figure = drawing.new_figure(WIDTH, height)
    longest = max(map(len, columns))
    room = WIDTH * wide / len(columns) / 0.085  # letters of a column's name
    for place, (to, title) in enumerate(shown):
        words = transfer.words(density, to)
        leads = {
            cell.pair: transfer.measure.scale * lead.difference
            for cell in transfer.cells
            if (lead := cell.lead(density, to)) is not None
        }
        box = (left + place * (left + wide), 0.4 / height, wide - 0.01, 1 - 0.85 / height)
        axes = figure.add_axes(box)
        grid = [[leads.get((row, column), math.nan) for column in columns] for row in rows]
        reach = max([abs(value) for value in leads.values()], default=1.0) or 1.0
        draw_cells(axes, grid, rows=rows, columns=columns, norm=Normalize(-reach, reach),
                   colours="RdBu", size=max(min(9, 9 * room / longest), 6))  # fmt: skip
        axes.set_title(f"{title} ({say.difference_unit(transfer.measure).strip()})", loc="left",
                       fontsize=10.5, color=INK)  # fmt: skip
        for line, row in enumerate(rows):
            for at, column in enumerate(columns):
                pair = (row, column)
                value, word = leads.get(pair), words.get(pair, "")
                number = "" if value is None else say.signed(value, ".2f")
                axes.text(at, line, f"{number}\n{word}".strip(),
                          ha="center", va="center", fontsize=7.5, linespacing=1.1,
                          color="white" if abs(value or 0.0) > 0.65 * reach else INK,
                          fontweight="bold" if word == "shown" else "normal",
                          )  # fmt: skip
    return figure


def curves_figure(transfer: Transfer) -> Figure | None:
    """Draws a panel for each target: its own tickets, those carried to it, random masks."""
    if not transfer.densities:
        return None
    targets, random = transfer.targets, transfer.random
    across = min(PANELS, len(targets))
    down = math.ceil(len(targets) / across)
    height = TALL * down + 0.35
    figure = drawing.new_figure(WIDTH, height)
    for place, target in enumerate(targets):
        left = 0.07 + (place % across) * 0.93 / across
        low = 1 - (TALL * (place // across + 1) - 0.2) / height
        axes = figure.add_axes((left, low, 0.93 / across - 0.055, 1.85 / height))
        lines = []
        for index, source in enumerate(transfer.sources):
            cell = transfer.at((source, target))
            if cell is None:
                continue
            line = Line(source, drawing.colour(index), marker=drawing.marker(index), width=1.4)
            lines.append(_through(line, cell.verdict))
            if random:
                dashed = Line("", drawing.colour(index), style="--", marker="", width=0.9)
                lines.append(_through(dashed, cell.verdict, random, spread=False))
        own = next((c.own_verdict for c in transfer.cells if c.target == target), None)
        if own is not None:
            lines.append(_through(Line("own", INK, marker="o", width=1.8), own))
        frame = Frame(say.axis(transfer.measure) if not place % across else "",
                      "weights remaining (%)")  # fmt: skip
        drawn = [line for line in lines if line.x]
        paint(axes, drawn, frame)
        frame.set_x(axes, drawn)
        axes.set_title(target, loc="left", fontsize=10.5, color=INK, parse_math=False)
    handles = [
        (drawing.colour(i), drawing.marker(i), f"from {name}")
        for i, name in enumerate(transfer.sources)
    ]
    axes = figure.axes[0]
    for colour, marker, label in [(INK, "o", "own tickets"), *handles]:
        axes.plot([], [], color=colour, marker=marker, markersize=4.5, label=label)
    shown = [pair for pair in zip(*axes.get_legend_handles_labels(), strict=True)
             if pair[1] == "own tickets" or pair[1].startswith("from ")]  # fmt: skip
    figure.legend(*zip(*shown, strict=True), loc="upper left", bbox_to_anchor=(0.06, 1.0), ncols=6,
                  frameon=False, fontsize=9)  # fmt: skip
    return figure


def _through(line: Line, verdict: Verdict, arm: str = TICKET, *, spread: bool = True) -> Line:
    levels = [verdict.dense] if verdict.dense and arm == TICKET else []
    points = points_of([*levels, *verdict.of(arm)], verdict.measure)
    return line.through(points if spread else ((x, y, 0.0) for x, y, _ in points))
