"""How a field of the rows becomes a panel: its lines, what they are drawn against, what is said."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lth_runner.runs.evidence.means import Summary, aggregate, mean, number, object_means, std
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Verdict
from lth_runner.runs.folder import Row
from lth_runner.runs.report import drawing
from lth_runner.runs.report import wording as say
from lth_runner.runs.report.drawing import INK, MUTED, LineStyle
from lth_runner.runs.report.heat import tail
from lth_runner.runs.report.lines import (
    DASHED,
    DOTTED,
    PERCENT,
    Frame,
    Line,
    Reference,
    by_count,
    line_figure,
)
from lth_runner.values.measure import Measure

MAX_SHADES = 4  # rounds of one figure
Points = Sequence[tuple[float, float, float]]  # x, mean, standard deviation
Series = Mapping[tuple[str, int], Points]  # by arm and round


@dataclass(frozen=True)
class Panel:
    """A figure with its heading; `lines` are what it draws, or would with more than dots."""

    key: str
    heading: str
    reading: str
    figure: Figure | None
    lines: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Each:
    """A field with a line for every arm, in the arm's colour."""

    field: str
    label: str = ""
    style: LineStyle = "-"


@dataclass(frozen=True)
class Beside:
    """A field of the ticket's rows to compare with; grey without a `shade`, a colour's index."""

    field: str
    label: str
    style: LineStyle = DOTTED
    shade: int | None = None
    strong: bool = False  # in ink


def field_of(run: FinishedRun, one: Each | Beside) -> str:
    """Names the field in the rows of a run: {measure} stands for that of its headline."""
    return one.field.format(measure=run.measure.name)


# --- lines; each function returns them with the frame that they are drawn into


def density_lines(
    run: FinishedRun, verdict: Verdict, one: Instrument, frame: Frame
) -> tuple[list[Line], Frame]:
    """Means over the replicates by density, bands of one standard deviation."""
    summaries = aggregate(run.rows)
    lines = [
        line.through(_drawable(means_by_density(summaries, arm, field, one.factor(run)), frame))
        for arm, field, line in _each(run, one)
    ]
    return lines, frame


def means_by_density(
    summaries: Mapping[tuple[str, int], Summary], arm: str, field: str, factor: float
) -> Points:
    """Lists a field's means over the rounds of an arm by falling density (%)."""
    found = [
        (PERCENT * (1 - of.sparsity), factor * of.mean[field], factor * (of.std[field] or 0.0))
        for (other, _), of in summaries.items()
        if other == arm and of.sparsity is not None and field in of.mean
    ]
    return sorted(found, reverse=True)


def layer_lines(
    run: FinishedRun, verdict: Verdict, one: Instrument, frame: Frame
) -> tuple[list[Line], Frame]:
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
        line.through(_drawable([(float(names.index(n)), one.factor(run) * y, one.factor(run) * s)
                                for n, (y, s) in layers.items()], frame))
        for line, layers in found
    ]  # fmt: skip

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


def relative_lines(
    run: FinishedRun, verdict: Verdict, one: Instrument, frame: Frame
) -> tuple[list[Line], Frame]:
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


def step_lines(
    run: FinishedRun, verdict: Verdict, one: Instrument, frame: Frame
) -> tuple[list[Line], Frame]:
    """Draws an object by step of the ticket's rows, step 0 on the same axis."""
    rows = [row for row in run.rows if row["arm"] == TICKET]
    lines = [
        line.through(sorted((float(step), one.factor(run) * y, one.factor(run) * s)
                            for step, (y, s) in object_means(rows, field).items()))
        for _, field, line in _each(run, one)
    ]  # fmt: skip
    return lines, replace(frame, set_x=by_count)


def bin_lines(
    run: FinishedRun, verdict: Verdict, one: Instrument, frame: Frame
) -> tuple[list[Line], Frame]:
    """Draws an object by place from 0 to 1, beside the line on which both axes are equal."""
    field = field_of(run, one.fields[0])
    series = _by_round(run, lambda rows: sorted(
        (float(place), y, s) for place, (y, s) in object_means(rows, field).items()
    ))  # fmt: skip
    if not series:
        return [], frame
    shown = shown_rounds([round for arm, round in series if arm == TICKET], verdict)
    equal = Line(one.fields[0].label, MUTED, style=DOTTED, marker="")
    lines = [*shaded_lines(run, verdict, series, shown), equal.through([(0, 0, 0), (1, 1, 0)])]
    return lines, replace(frame, set_x=by_count)


def along(
    places: Callable[[Row, int], Sequence[float]],
) -> Callable[[FinishedRun, Verdict, Instrument, Frame], tuple[list[Line], Frame]]:
    """Draws a list by the places that its row gives it: some rounds, controls of the marked one."""

    def draw(
        run: FinishedRun, verdict: Verdict, one: Instrument, frame: Frame
    ) -> tuple[list[Line], Frame]:
        field = field_of(run, one.fields[0])
        series = _by_round(run, lambda rows: _list_means(rows, field, places, one.factor(run)))
        shown = shown_rounds([round for arm, round in series if arm == TICKET], verdict)
        return shaded_lines(run, verdict, series, shown), replace(frame, set_x=by_count)

    return draw


def _by_round(run: FinishedRun, points: Callable[[Iterable[Row]], Points]) -> Series:
    """Gathers the points of every arm and round that has some."""
    return {
        (arm, round): found
        for arm in run.arms
        for round in run.rounds(arm)
        if (found := points(run.at(arm, round)))
    }


def shaded_lines(
    run: FinishedRun, verdict: Verdict, series: Series, rounds: Sequence[int]
) -> list[Line]:
    """Rounds of the ticket, darker is sparser; dashed: the controls of the marked one."""
    marked, lines = marked_round(rounds, verdict), []
    for place, round in enumerate(rounds):
        line = Line(kept_label(run, round), drawing.shade(place, len(rounds)), marker="")
        lines.append(line.through(series[TICKET, round]))
    for index, arm in enumerate(run.arms):
        if arm != TICKET and marked is not None and (arm, marked) in series:
            name = f"{arm} at {kept_label(run, marked)}"
            line = Line(name, drawing.colour(index), style=DASHED, marker="", width=1.4)
            lines.append(line.through(series[arm, marked]))
    return lines


def _each(run: FinishedRun, one: Instrument) -> list[tuple[str, str, Line]]:
    """Lists (arm, field, a line without points) of everything that an instrument compares."""
    found = []
    for field in one.fields:
        name = field_of(run, field)
        if isinstance(field, Beside):
            grey = INK if field.strong else MUTED
            colour = grey if field.shade is None else drawing.colour(field.shade)
            line = Line(field.label, colour, style=field.style, marker="")
            found.append((TICKET, name, line))
            continue
        for index, arm in enumerate(run.arms):
            label = f"{arm}, {field.label}" if field.label else arm
            mark = drawing.marker(index) if field.style == "-" else ""
            width = 3.2 if arm == TICKET else 1.6  # a control of the same mask lies upon it
            line = Line(label, drawing.colour(index), style=field.style, marker=mark, width=width)
            found.append((arm, name, line))
    return found


def kept_label(run: FinishedRun, round: int) -> str:
    """Writes what a round keeps, and whether it is the dense one: '51.2 %'."""
    kept = run.density(TICKET, round)
    text = f"round {round}" if kept is None else f"{PERCENT * kept:.3g} %"
    return f"{text}, dense" if round == run.dense_round else text


def marked_round(rounds: Iterable[int], verdict: Verdict) -> int | None:
    """Picks the sparsest match where it is one of these; else the last; None of none."""
    best, found = verdict.marked(), set(rounds)
    return best.round if best is not None and best.round in found else max(found, default=None)


def shown_rounds(rounds: Iterable[int], verdict: Verdict) -> list[int]:
    """Picks four of them at most: the first, the last, the marked one, and what lies between."""
    found = sorted(set(rounds))
    marked = marked_round(found, verdict)
    if len(found) <= MAX_SHADES or marked is None:
        return found
    return sorted({found[0], found[(len(found) - 1) // 2], found[-1], marked})


def _list_means(
    rows: Iterable[Row], field: str, x: Callable[[Row, int], Sequence[float]], factor: float
) -> Points:
    """Averages lists by place, over the replicates whose lists are as long as the longest."""
    lists = [(row, row[field]) for row in rows if isinstance(row.get(field), list)]
    longest = max((len(values) for _, values in lists), default=0)
    whole = [(row, values) for row, values in lists if len(values) == longest]
    points = []
    for i, place in enumerate(x(whole[0][0], longest) if longest else ()):
        found = [factor * y for _, values in whole if (y := number(values[i])) is not None]
        if found:
            points.append((place, mean(found), std(found) or 0.0))
    return points


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
    draw: Callable[..., tuple[list[Line], Frame]] = density_lines
    level: Callable[[FinishedRun], Reference | None] = lambda run: None
    note: Callable[[FinishedRun], str] = lambda run: ""
    hidden: Callable[[FinishedRun], bool] = lambda run: False

    def factor(self, run: FinishedRun) -> float:
        """By what values are multiplied before they are drawn."""
        return run.measure.scale if self.scaled else 1.0

    def panel(self, run: FinishedRun, verdict: Verdict) -> Panel:
        """Draws the panel of a run."""
        names = _names(run.measure) if self.scaled else {}
        frame = replace(self.frame, ylabel=self.frame.ylabel.format(**names))
        lines, frame = self.draw(run, verdict, self, frame)
        level, drawn = self.level(run), [line for line in lines if line.x]
        figure = line_figure(drawn, replace(frame, references=[level] if level else []))
        reading = f"{self.reading} {self.note(run)}".strip()
        return Panel(self.key, self.heading, reading, figure, tuple(drawn))


def _names(measure: Measure) -> dict[str, str]:
    """Writes the measure, an error by it (smaller is better) and their differences, with units."""
    name, unit = say.label(measure), f" ({measure.unit})" if measure.unit else ""
    return {
        "value": say.axis(measure, ""),
        "error": f"{'error' if measure.better == 'higher' else name}{unit}",
        "errors": "points of error" if measure.unit == "%" else f"of {name}",
        "difference": say.difference_unit(measure).strip() or name,
    }
