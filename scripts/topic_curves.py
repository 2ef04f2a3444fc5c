"""The curves behind the claims of a topic: what its rules read, over the weights that remain."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import PurePath
from typing import Any

from claim import Claim
from judged import Row
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from measures import ACCURACY
from topic_generated import draw_generated, headed, legend
from topic_merges import merges_figure
from topic_panels import THICK, Panel, panels_of

from lth_runner.runs.evidence.generated import Generation, find_generated
from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.merged import replicated
from lth_runner.runs.evidence.merges import find_merges
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.settings import seed_groups, sorted_by_settings
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.lines import PERCENT, Frame, Line, by_count, by_density, paint
from lth_runner.runs.report.curve import dense_reference

NO_CURVE = ("start_step", "sign_preservation_dense")  # the same in every round
WIDE, HIGH, TITLE, BELOW, ENTRY = 3.9, 2.4, 0.42, 0.55, 0.135  # inches of a panel and its parts


def topic_curves(rows: Sequence[Row], every: Sequence[FinishedRun]) -> Figure | None:
    """Draws the panels of a topic's claims; None where no run reaches one.

    A panel for each problem and each field that a rule names; of one with too many lines one for
    each value of the setting that has the fewest. Of merged networks what each way to merge loses,
    of generated ones what each reaches by its distance to those of training, and what starts there.
    ``every``: the runs that others start from.
    """
    measured = [row for row in rows if row.found is not None]
    own = {(run.name, run.folder.name): run for row in measured for run in row.runs}
    if not own:
        return None
    if merges := find_merges(list(own.values())):
        return merges_figure(merges)
    known = {run.folder.name: run for run in every}
    made = find_generated(list(own.values()))
    if made:
        own = {key: run for key, run in own.items() if run.option("origin")}
    runs = [replace(run, config=_named(run.config, known)) for run in own.values()]
    asked = list(dict.fromkeys(name for row in measured for name in read_by(row.claim, runs)))
    panels = [panel for panel in panels_of(sorted_by_settings(runs), asked) if panel.lines]
    return _figure(panels, made) if panels or made else None


def read_by(claim: Claim, runs: Sequence[FinishedRun]) -> Iterator[str]:
    """The fields of rows that a claim's rule names, besides the accuracy at the last step."""
    known = {name for run in runs for row in run.rows for name in row}
    for text in _texts(claim.measure):
        if text in known and text != ACCURACY and text not in NO_CURVE:
            yield text


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        yield from _texts([getattr(value, one.name) for one in fields(value)])
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, (tuple, list)):
        yield from itertools.chain.from_iterable(map(_texts, value))


def _named(value: Any, known: Mapping[str, FinishedRun]) -> Any:
    """The same config with the data of another run in place of that run's id."""
    if isinstance(value, Mapping):
        return {key: _named(one, known) for key, one in value.items()}
    run = known.get(PurePath(value).name) if isinstance(value, str) and value else None
    return value if run is None else f"from {run.option('dataset', 'name') or run.name}"


def _figure(panels: Sequence[Panel], made: Sequence[Generation]) -> Figure:
    """Panels in rows of three, each with its legend below, unless the one before has the same.

    Above them a row of those of generated networks.
    """
    columns = max(min(3, len(panels)), len(made))
    named = [
        place == 0 or panels[place - 1].labels != panel.labels for place, panel in enumerate(panels)
    ]
    entries = [len(panel.lines) * own for panel, own in zip(panels, named, strict=True)]
    heights = [
        TITLE + HIGH + BELOW + ENTRY * max(entries[first : first + columns])
        for first in range(0, len(panels), columns)
    ]
    most = max((len(found.flows) for found in made), default=0)
    above = TITLE + HIGH + BELOW + ENTRY * most if made else 0.0
    wide, top = WIDE * columns, above + sum(heights)
    figure = drawing.new_figure(wide, top)
    for place, found in enumerate(made):
        box = _box(place, top - TITLE - HIGH, wide, top)
        draw_generated(figure.add_axes(box), found)
    for place, (panel, own) in enumerate(zip(panels, named, strict=True)):
        low = top - above - sum(heights[: place // columns]) - TITLE - HIGH
        axes = figure.add_axes(_box(place % columns, low, wide, top))
        _draw(axes, panel)
        if own:
            legend(axes)
    return figure


def _box(column: int, low: float, wide: float, top: float) -> tuple[float, float, float, float]:
    """Where a panel stands, in shares of a figure that is so many inches wide and high."""
    return (WIDE * column + 0.5) / wide, low / top, (WIDE - 0.62) / wide, HIGH / top


def _draw(axes: Axes, panel: Panel) -> None:
    measure, headline = panel.run.measure, panel.field is None
    references = []
    if headline and len(panel.kinds) == 1:
        verdict = judge(replicated(seed_groups(panel.kinds[0].runs)[0]))
        references = dense_reference(measure, verdict.dense, verdict.tolerance)
    frame = Frame("", panel.along, references=references,
                  logarithmic_y=headline and measure.better == "lower")  # fmt: skip
    paint(axes, panel.lines, frame)
    (by_density if panel.along.startswith("weights") else by_count)(axes, panel.lines)
    if headline and measure.unit == "%":
        _keep_in_sight(axes, panel.lines)
    unit = " (%)" if panel.field and panel.scale == PERCENT else ""
    said = say.axis(measure) if panel.field is None else f"{panel.field.replace('_', ' ')}{unit}"
    headed(axes, panel.heading, said)


def _keep_in_sight(axes: Axes, lines: Sequence[Line]) -> None:
    """Controls that fall three times as deep as the tickets leave the axes."""
    bold = [y for line in lines if line.width == THICK for y in line.y]
    every = [y for line in lines for y in line.y]
    top = max(every)
    fall = max(top - min(bold, default=top), 1.0)  # of tickets, at least a point
    lowest = max(min(every), top - 3 * fall)
    pad = 0.06 * max(top - lowest, 1.0)
    axes.set_ylim(lowest - pad, top + pad)
