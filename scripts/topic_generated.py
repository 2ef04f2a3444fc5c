"""The pictures of topics on generated networks, and how panels are headed and their lines named."""

from __future__ import annotations

from matplotlib.axes import Axes

from lth_runner.runs.evidence.generated import Generation
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.drawing import INK
from lth_runner.runs.report.generated_networks import DISTANCE, draw_networks


def draw_generated(axes: Axes, found: Generation) -> None:
    """Draws what each generated network reaches, by its distance to the nearest of training."""
    draw_networks(axes, found)
    drawing.tidy(axes, xlabel=DISTANCE, ylabel="")
    headed(axes, f"{found.flows[0].run.name} · generated", say.axis(found.flows[0].measure))
    legend(axes)


def headed(axes: Axes, heading: str, said: str) -> None:
    """A panel's heading, in two lines, and labels of their size."""
    axes.set_title(f"{heading}\n{said}", loc="left", fontsize=7.8, color=INK)
    axes.tick_params(labelsize=7)
    axes.xaxis.label.set_fontsize(7.8)
    axes.xaxis.labelpad = 2


def legend(axes: Axes) -> None:
    """A panel's lines by name, below it."""
    axes.legend(loc="upper left", bbox_to_anchor=(-0.1, -0.16), fontsize=6.8, frameon=False,
                borderpad=0, labelspacing=0.25)  # fmt: skip
