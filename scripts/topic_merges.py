"""The pictures of topics on merged networks: what each way to merge loses of every task."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from lth_runner.runs.evidence.merges import Merges
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages.drawing import INK
from lth_runner.runs.study_pages.merges import draw_losses, lost, title

WIDE, LEFT, RIGHT = 9.0, 2.6, 1.1  # inches of all, beside the axes for ways and for tasks
TITLE, WAY, BELOW = 0.42, 0.34, 0.5  # inches of a panel's parts


def merges_figure(every: Sequence[Merges]) -> Figure:
    """Draws a panel for each set of tasks and how they were trained: the losses of each way."""
    heights = [TITLE + WAY * len(found.merged) + BELOW for found in every]
    top = sum(heights)
    figure = drawing.new_figure(WIDE, top)
    for place, found in enumerate(every):
        low, high = top - sum(heights[: place + 1]) + BELOW, WAY * len(found.merged)
        box = LEFT / WIDE, low / top, (WIDE - LEFT - RIGHT) / WIDE, high / top
        axes = figure.add_axes(box)
        draw_losses(axes, found)
        drawing.tidy(axes, xlabel=lost(found), ylabel="")
        axes.set_title(title(found), loc="left", fontsize=8.5, color=INK)
        axes.tick_params(labelsize=7.5)
        axes.xaxis.label.set_fontsize(8)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=8)
    return figure
