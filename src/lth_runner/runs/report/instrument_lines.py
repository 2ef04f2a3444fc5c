"""How a field of the rows becomes a panel: its lines, what they are drawn against, what is said."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes

from lth_runner.runs.evidence.means import (
    IDENTITY,
    Points,
    Summary,
    aggregate,
    list_means,
    object_means,
)
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Verdict
from lth_runner.runs.folder import Row
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.drawing import MUTED, LineStyle
from lth_runner.runs.pages.lines import (
    DOTTED,
    PERCENT,
    Frame,
    Line,
    Reference,
    by_count,
    line_figure,
)
from lth_runner.runs.pages.page import Section
from lth_runner.runs.report.heat import tail
from lth_runner.runs.report.round_lines import kept_label, lines_of_rounds, marked_round
from lth_runner.values.measure import Measure

Drawn = tuple[list[Line], Frame]  # and the frame that they are drawn into


@dataclass(frozen=True)
class Each:
    """A field with a line for every arm, in the arm's colour."""

    field: str
    label: str = ""
    style: LineStyle = "-"


@dataclass(frozen=True)
class Beside:
    """A field of the ticket's rows to compare with."""

    field: str
    label: str
    style: LineStyle = DOTTED
    colour: str = MUTED


def field_of(run: FinishedRun, one: Each | Beside) -> str:
    """Names the field in the rows of a run: {measure} stands for that of its headline."""
    return one.field.format(measure=run.measure.name)


# --- lines; each function returns them with the frame that they are drawn into


def density_lines(run: FinishedRun, verdict: Verdict, one: Instrument, frame: Frame) -> Drawn:
    """Means over the replicates by density, bands of one standard deviation."""
    wanted = _each(run, one)
    names = {*IDENTITY, "density", "sparsity", *(field for _, field, _ in wanted)}
    summaries = aggregate({n: row[n] for n in names if n in row} for row in run.rows)
    lines = [
        line.through(_drawable(means_by_density(summaries, arm, field), frame))
        for arm, field, line in wanted
    ]
    return lines, frame


def means_by_density(summaries: Mapping[tuple[str, int], Summary], arm: str, field: str) -> Points:
    """Lists a field's means over the rounds of an arm by falling density (%)."""
    found = [
        (PERCENT * (1 - of.sparsity), of.mean[field], of.std[field] or 0.0)
        for (other, _), of in summaries.items()
        if other == arm and of.sparsity is not None and field in of.mean
    ]
    return sorted(found, reverse=True)


def layer_lines(run: FinishedRun, verdict: Verdict, one: Instrument, frame: Frame) -> Drawn:
    """Draws an object by layer of each arm in the marked round, layers in their order."""
    wanted = _each(run, one)
    fields = {(arm, field) for arm, field, _ in wanted}
    having = {row["round"] for row in run.rows for arm, field in fields
              if row["arm"] == arm and isinstance(row.get(field), Mapping)}  # fmt: skip
    round = marked_round(having, verdict)
    if round is None:
        return [], frame
    found = [(line, object_means(run.at(arm, round), field)) for arm, field, line in wanted]
    names = list(dict.fromkeys(name for _, layers in found for name in layers))
    lines = [
        line.through(_drawable([(names.index(n), *of) for n, of in layers.items()], frame))
        for line, layers in found
    ]

    def by_layer(axes: Axes, drawn: Sequence[Line]) -> None:
        many = len(names) > 6
        axes.set_xlim(-0.4, max(len(names) - 0.6, 0.4))
        axes.set_xticks(range(len(names)))
        axes.set_xticklabels(
            [tail(name).removesuffix(".weight") for name in names], parse_math=False,
            rotation=40 if many else 0, ha="right" if many else "center",
            fontsize=7 if len(names) > 24 else 8.5,
        )  # fmt: skip
        if many:
            left, _, width, _ = axes.get_position().bounds
            axes.set_position((left, 0.31, width, 0.63))

    xlabel = f"layer, at {kept_label(run, round)} of the weights"
    return lines, replace(frame, set_x=by_layer, xlabel=xlabel)


def relative_lines(run: FinishedRun, verdict: Verdict, one: Instrument, frame: Frame) -> Drawn:
    """Draws densities by name, a line of the ticket for each, over the density of all weights."""
    field, found = field_of(run, one.fields[0]), dict[str, list[tuple[float, float, float]]]()
    for round in run.rounds(TICKET):
        whole = run.density(TICKET, round) or math.nan
        for name, (y, s) in object_means(run.at(TICKET, round), field).items():
            found.setdefault(name, []).append((PERCENT * whole, y / whole, s / whole))
    lines = [
        Line(name, drawing.colour(index), marker=drawing.marker(index), width=1.6).through(points)
        for index, (name, points) in enumerate(found.items())
    ]
    return lines, frame


def step_lines(run: FinishedRun, verdict: Verdict, one: Instrument, frame: Frame) -> Drawn:
    """Draws an object by step of the ticket's rows, step 0 on the same axis."""
    rows = [row for row in run.rows if row["arm"] == TICKET]
    lines = [line.through(_by_place(rows, field)) for _, field, line in _each(run, one)]
    return lines, replace(frame, set_x=by_count)


def bin_lines(run: FinishedRun, verdict: Verdict, one: Instrument, frame: Frame) -> Drawn:
    """Draws an object by place from 0 to 1, beside the line on which both axes are equal."""
    field = field_of(run, one.fields[0])
    lines = lines_of_rounds(run, verdict, lambda rows: _by_place(rows, field))
    if not lines:
        return [], frame
    equal = Line(one.fields[0].label, MUTED, style=DOTTED, marker="")
    return [*lines, equal.through([(0, 0, 0), (1, 1, 0)])], replace(frame, set_x=by_count)


def _by_place(rows: Iterable[Row], field: str) -> Points:
    """Averages an object whose names are steps or places."""
    return sorted((float(place), *of) for place, of in object_means(rows, field).items())


def along(places: Callable[[Row, int], Sequence[float]]) -> Callable[..., Drawn]:
    """Draws a list by the places that its row gives it: some rounds, controls of the marked one."""

    def draw(run: FinishedRun, verdict: Verdict, one: Instrument, frame: Frame) -> Drawn:
        field = field_of(run, one.fields[0])
        lines = lines_of_rounds(run, verdict, lambda rows: list_means(rows, field, places))
        return lines, replace(frame, set_x=by_count)

    return draw


def _each(run: FinishedRun, one: Instrument) -> list[tuple[str, str, Line]]:
    """Lists (arm, field, a line without points) of everything that an instrument compares."""
    found = []
    for field in one.fields:
        name = field_of(run, field)
        if isinstance(field, Beside):
            line = Line(field.label, field.colour, style=field.style, marker="")
            found.append((TICKET, name, line))
            continue
        for index, arm in enumerate(run.arms):
            label = f"{arm}, {field.label}" if field.label else arm
            mark = drawing.marker(index) if field.style == "-" else ""
            width = 3.2 if arm == TICKET else 1.6  # a control of the same mask lies upon it
            line = Line(label, drawing.colour(index), style=field.style, marker=mark, width=width)
            found.append((arm, name, line))
    return found


def _drawable(points: Points, frame: Frame) -> Points:
    """Leaves out what a logarithmic axis cannot show."""
    return [point for point in points if point[1] > 0] if frame.logarithmic_y else points


# --- an instrument


@dataclass(frozen=True)
class Instrument:
    """A panel of the page, which appears where a row has the field of its first line.

    `scaled`: its values are of the headline measure, whose name and units stand for the fields in
    braces of the frame's y label. `level`: a horizontal line and its name. `note`: what is said of
    this very run. `hidden`: whether a run shows nothing by it.
    """

    key: str
    heading: str
    reading: str
    frame: Frame
    fields: tuple[Each | Beside, ...]
    scaled: bool = False
    draw: Callable[..., Drawn] = density_lines
    level: Callable[[FinishedRun], Reference | None] = lambda run: None
    note: Callable[[FinishedRun], str] = lambda run: ""
    hidden: Callable[[FinishedRun], bool] = lambda run: False

    def panel(self, run: FinishedRun, verdict: Verdict) -> Section:
        """Draws the panel of a run."""
        names = _names(run.measure) if self.scaled else {}
        frame = replace(self.frame, ylabel=self.frame.ylabel.format(**names))
        lines, frame = self.draw(run, verdict, self, frame)
        factor = run.measure.scale if self.scaled else 1.0
        level, drawn = self.level(run), [line.scaled(factor) for line in lines if line.x]
        figure = line_figure(drawn, replace(frame, references=[level] if level else []))
        reading = f"{self.reading} {self.note(run)}".strip()
        return Section(self.heading, reading, self.key, figure, lines=tuple(drawn))


def _names(measure: Measure) -> dict[str, str]:
    """Writes the measure, an error by it (smaller is better) and their differences, with units."""
    name, unit = say.label(measure), f" ({measure.unit})" if measure.unit else ""
    return {
        "value": say.axis(measure, ""),
        "error": f"{'error' if measure.better == 'higher' else name}{unit}",
        "errors": "points of error" if measure.unit == "%" else f"of {name}",
        "difference": say.difference_unit(measure).strip() or name,
    }
