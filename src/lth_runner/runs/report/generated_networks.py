"""Generated networks as a section of a page: a picture, a sentence for each flow, and a table."""

from __future__ import annotations

from collections.abc import Iterator

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lth_runner.runs.evidence.generated import FLOW, TRAINING, Flow, Generation, Kind
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.page import Records, Section, Table
from lth_runner.runs.pages.tables import Cells, ruled, wrapped
from lth_runner.values.measure import Measure

WIDTH, TALL = 10.0, 4.2  # inches
DISTANCE = "distance to the nearest training network (L2)"
COPIES = 0.1  # of the distance between training networks: nearer is called a copy
READING = (
    "Each point is a generated network: how far its weights are from the nearest training network "
    "(L2, over trained weights), and what it reaches on test. Up and right is better: good, and of "
    "its own. Crosses: what else is made of the same networks, on average. The dotted line is the "
    "mean of the training networks themselves, whose distance to each other the dashed one is."
)
KINDS = (
    "training: the networks themselves, their nearest being another of them. reduced: the same "
    "through the components and back. flow: generated. pairs: the middle between two drawn at "
    "random. mean: of all. gaussian: each weight drawn by itself with their mean and spread. "
    "Neighbours: how many training networks are the nearest of one. Same errors: intersection over "
    "union of the test samples that are wrong, with the training network that is most alike; 1 is "
    "a copy. Ensemble: the mean of all their answers."
)


def section(found: Generation, key: str = "generated-networks") -> Section:
    """Makes the section; its picture has the name ``key``."""
    return Section(
        "Generated networks", READING, key, _figure(found), _records(found),
        notes=tuple(sentence(flow) for flow in found.flows), tables=(Table(*table(found)),),
        fine_print=KINDS,
    )  # fmt: skip


def text(found: Generation) -> str:
    """Writes what a console shows."""
    told = [sentence(flow) for flow in found.flows]
    return "\n".join([*ruled(table(found), left=2), "", *wrapped(told)])


def sentence(flow: Flow) -> str:
    """Says in one sentence how good a flow's networks are, and whether they are copies."""
    ours, theirs, novelty = flow.kind(FLOW), flow.kind(TRAINING), flow.novelty
    if ours is None or theirs is None:
        return f"Flow over networks {flow.called}: told by condition in the table."
    if novelty is None:
        return (
            f"Flow over networks {flow.called}: {_mean(flow.measure, ours)} against "
            f"{_mean(flow.measure, theirs)} of those it learned from; how far apart they are is "
            "not known, as of weights that are not finite, or of one network alone."
        )
    near = "near copies" if novelty < COPIES else "no copies"
    return (
        f"Flow over networks {flow.called}: {_mean(flow.measure, ours)} against "
        f"{_mean(flow.measure, theirs)} of those it learned from; {novelty:.2f} of the distance "
        f"between these away from the nearest of them: {near}, {flow.num_neighbours} of these the "
        "nearest of one."
    )


def table(found: Generation) -> Cells:
    """Tabulates each flow's networks, and beside them what else is made of the same ones."""
    header = ["flow over networks", "networks", found.flows[0].measure.name, "ensemble", "nearest",
              "neighbours", "apart", "same errors"]  # fmt: skip
    shown = [(flow, kind) for flow, kinds in _each_once(found) for kind in kinds]
    return header, [
        [flow.called, kind.name, _mean(flow.measure, kind), _ensemble(flow.measure, kind),
         *(_figure_of(kind, name, form) for name, form in
           (("nearest", ".2f"), ("neighbours", ".0f"), ("pairwise", ".2f"),
            ("same_errors", ".2f")))]
        for flow, kind in shown
    ]  # fmt: skip


def _each_once(found: Generation) -> Iterator[tuple[Flow, list[Kind]]]:
    """Goes through the flows, each with its networks, and with others that no flow before had."""
    seen: set[Kind] = set()
    for flow in found.flows:
        new = [kind for kind in flow.kinds if kind not in seen]
        seen |= {*new}
        yield flow, new


def _mean(measure: Measure, kind: Kind) -> str:
    spread = None if kind.name == "mean" else kind.figures.get("spread")
    return say.averaged(measure, kind.value, spread)


def _ensemble(measure: Measure, kind: Kind) -> str:
    value = kind.figures.get("ensemble")
    return "" if value is None else measure.text(value)


def _figure_of(kind: Kind, name: str, form: str) -> str:
    value = kind.figures.get(name)
    return "" if value is None else f"{value:{form}}"


def _figure(found: Generation) -> Figure:
    figure = drawing.new_figure(WIDTH, TALL)
    axes = figure.add_axes((0.08, 0.14, 0.55, 0.8))
    draw_networks(axes, found)
    drawing.tidy(axes, xlabel=DISTANCE, ylabel=say.axis(found.flows[0].measure))
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), frameon=False, fontsize=8)
    return figure


def draw_networks(axes: Axes, found: Generation) -> None:
    """Draws each generated network by its measure and its distance to the nearest of training."""
    for index, flow in enumerate(found.flows):
        colour, scale = drawing.colour(index), flow.measure.scale
        values = [scale * value for value in flow.values]
        axes.plot(flow.nearest, values, linestyle="none", marker=drawing.marker(index),
                  markersize=3.5, alpha=0.6, color=colour, label=flow.called)  # fmt: skip
        for kind in flow.kinds:
            if kind.name in ("pairs", "mean", "gaussian") and "nearest" in kind.figures:
                place = kind.figures["nearest"], scale * kind.value
                axes.plot(*place, marker="x", markersize=6, linestyle="none", color=colour)
                axes.annotate(kind.name, place, fontsize=7, color=drawing.MUTED,
                              xytext=(4, -8), textcoords="offset points")  # fmt: skip
        if (own := flow.kind(TRAINING)) is not None:
            axes.axhline(scale * own.value, color=drawing.MUTED, linestyle=":", linewidth=0.9)
            if "nearest" in own.figures:
                axes.axvline(own.figures["nearest"], color=colour, linestyle="--", linewidth=0.7)


def _records(found: Generation) -> Records:
    return [
        {"flow": flow.called, "network": number, flow.measure.name: value, "nearest": nearest}
        for flow in found.flows
        for number, (value, nearest) in enumerate(zip(flow.values, flow.nearest, strict=True))
    ]
