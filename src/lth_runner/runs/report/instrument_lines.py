"""How a field of the rows becomes a panel: its lines, what they are drawn against, what is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import INK, MUTED, LineStyle
from lth_runner.runs.report.heat import tail
from lth_runner.runs.report.lines import (
    PERCENT,
    Line,
    Reference,
    Scale,
    by_count,
    by_density,
    line_figure,
)
from lth_runner.runs.report.rows import (
    TICKET,
    FinishedRun,
    Row,
    aggregate,
    mean,
    number,
    object_means,
    std,
)
from lth_runner.runs.report.verdict import Verdict
from lth_runner.values.measure import Measure

DASHED, DOTTED = "--", ":"
MAX_SHADES = 4  # rounds of one figure
SetX = Callable[[Axes, Sequence[Line]], None]
Drawn = tuple[list[Line], SetX, str]  # with how the x axis is set, and its label if not the scale's


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


@dataclass(frozen=True)
class Instrument:
    """A panel of the page, which appears where a row has the field of its first line.

    `level`: a horizontal line and its name. `note`: what is said of this very run. `hidden`:
    whether a run shows nothing by it.
    """

    key: str
    heading: str
    reading: str
    scale: Callable[[Measure], Scale]
    fields: tuple[Each | Beside, ...]
    draw: Callable[[FinishedRun, Verdict, Instrument], Drawn]
    level: Callable[[FinishedRun], Reference | None]
    note: Callable[[FinishedRun], str]
    hidden: Callable[[FinishedRun], bool]

    def panel(self, run: FinishedRun, verdict: Verdict) -> Panel:
        """Draws the panel of a run."""
        lines, set_x, xlabel = self.draw(run, verdict, self)
        scale, level = self.scale(run.measure), self.level(run)
        figure = line_figure(
            lines,
            replace(scale, xlabel=xlabel or scale.xlabel),
            set_x=set_x,
            references=[level] if level else [],
        )
        reading = f"{self.reading} {self.note(run)}".strip()
        return Panel(self.key, self.heading, reading, figure, tuple(lines))


def instrument(
    key: str,
    heading: str,
    reading: str,
    scale: Scale | Callable[[Measure], Scale],
    *fields: Each | Beside,
    draw: Callable[..., Drawn] | None = None,
    level: Callable[[FinishedRun], Reference | None] = lambda run: None,
    note: Callable[[FinishedRun], str] = lambda run: "",
    hidden: Callable[[FinishedRun], bool] = lambda run: False,
) -> Instrument:
    """Makes an instrument, whose lines go through the rounds unless ``draw`` says otherwise."""
    made = (lambda measure: scale) if isinstance(scale, Scale) else scale
    return Instrument(key, heading, reading, made, fields, draw or density_lines, level, note,
                      hidden)  # fmt: skip


def field_of(run: FinishedRun, one: Each | Beside) -> str:
    """Names the field in the rows of a run: {measure} stands for that of its headline."""
    return one.field.format(measure=run.measure.name)


# --- lines


def _each(run: FinishedRun, one: Instrument) -> list[tuple[str, str, Line]]:
    """Yields (arm, field, a line without points) of everything that an instrument compares."""
    found = []
    for field in one.fields:
        if isinstance(field, Beside):
            grey = INK if field.strong else MUTED
            colour = grey if field.shade is None else drawing.colour(field.shade)
            line = Line(field.label, colour, (), (), style=field.style, marker="")
            found.append((TICKET, field_of(run, field), line))
            continue
        for index, arm in enumerate(run.arms):
            name = f"{arm}, {field.label}" if field.label else arm
            mark = drawing.marker(index) if field.style == "-" else ""
            width = 3.2 if arm == TICKET else 1.6  # a control of the same mask lies upon it
            line = Line(name, drawing.colour(index), (), (), (), field.style, mark, width)
            found.append((arm, field_of(run, field), line))
    return found


def density_lines(run: FinishedRun, verdict: Verdict, one: Instrument) -> Drawn:
    """Means over the replicates by density, bands of one standard deviation."""
    summaries, scale = aggregate(run.rows), one.scale(run.measure)
    lines = []
    for arm, field, line in _each(run, one):
        found = [
            (PERCENT * (1 - summary.sparsity), scale.factor * summary.mean[field],
             scale.factor * (summary.std[field] or 0.0))
            for round in run.rounds(arm)
            if (summary := summaries[arm, round]).sparsity is not None and field in summary.mean
        ]  # fmt: skip
        lines.append(line.through(_drawable(sorted(found, reverse=True), scale)))
    return [line for line in lines if line.x], by_density, ""


def layer_lines(run: FinishedRun, verdict: Verdict, one: Instrument) -> Drawn:
    """Draws an object by layer of each arm in the marked round, layers in their order."""
    wanted, scale = _each(run, one), one.scale(run.measure)
    having = {
        row["round"]
        for row in run.rows
        if any(
            row["arm"] == arm and isinstance(row.get(field), Mapping) for arm, field, _ in wanted
        )
    }
    round = marked_round(sorted(having), verdict)
    if round is None:
        return [], by_count, ""
    found = [(line, object_means(run.at(arm, round), field)) for arm, field, line in wanted]
    names = list(dict.fromkeys(name for _, layers in found for name in layers))
    lines = [
        line.through(_drawable([(float(names.index(n)), scale.factor * y, scale.factor * s)
                                for n, (y, s) in layers.items()], scale))
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

    lines = [line for line in lines if line.x]
    return lines, by_layer, f"layer, at {kept_label(run, round)} of the weights"


def step_lines(run: FinishedRun, verdict: Verdict, one: Instrument) -> Drawn:
    """Draws an object by step of the ticket's rows, step 0 on the same axis."""
    rows, scale = [row for row in run.rows if row["arm"] == TICKET], one.scale(run.measure)
    lines = [
        line.through(sorted((float(step), scale.factor * y, scale.factor * s)
                            for step, (y, s) in object_means(rows, field).items()))
        for _, field, line in _each(run, one)
    ]  # fmt: skip
    return [line for line in lines if line.x], by_count, ""


def along(places: Callable[[Row, int], Sequence[float]]) -> Callable[..., Drawn]:
    """Draws a list by the places that its row gives it: some rounds, controls of the marked one."""

    def draw(run: FinishedRun, verdict: Verdict, one: Instrument) -> Drawn:
        scale = one.scale(run.measure)
        series = {
            (arm, round): found
            for arm in run.arms
            for round in run.rounds(arm)
            if (
                found := _list_means(
                    run.at(arm, round), field_of(run, one.fields[0]), places, scale
                )
            )
        }
        shown = shown_rounds([round for arm, round in series if arm == TICKET], verdict)
        return shaded_lines(run, verdict, series, shown), by_count, ""

    return draw


def shaded_lines(
    run: FinishedRun, verdict: Verdict, series: Mapping[tuple[str, int], Sequence[Sequence[float]]],
    rounds: Sequence[int],
) -> list[Line]:  # fmt: skip
    """Rounds of the ticket, darker is sparser; dashed: the controls of the marked one."""
    marked = marked_round(rounds, verdict)
    lines = []
    for place, round in enumerate(rounds):
        line = Line(kept_label(run, round), drawing.shade(place, len(rounds)), (), (), marker="")
        lines.append(line.through(series[TICKET, round]))
    for arm in run.controls if marked is not None else ():
        if (arm, marked) in series:
            colour = drawing.colour(run.arms.index(arm))
            name = f"{arm} at {kept_label(run, marked or 0)}"
            line = Line(name, colour, (), (), style=DASHED, marker="", width=1.4)
            lines.append(line.through(series[arm, marked or 0]))
    return lines


def kept_label(run: FinishedRun, round: int) -> str:
    """Writes what a round keeps, and whether it is the dense one: '51.2 %'."""
    kept = run.density(TICKET, round)
    text = f"round {round}" if kept is None else f"{PERCENT * kept:.3g} %"
    return f"{text}, dense" if round == run.dense_round else text


def marked_round(rounds: Sequence[int], verdict: Verdict) -> int | None:
    """Picks the sparsest of these at which the ticket matches; else the last; None of none."""
    best = verdict.largest(TICKET)
    if best is not None and best.round in rounds:
        return best.round
    return max(rounds, default=None)


def shown_rounds(rounds: Iterable[int], verdict: Verdict) -> list[int]:
    """Picks four of them at most: the first, the last, the marked one, and what lies between."""
    found = sorted(set(rounds))
    if len(found) <= MAX_SHADES:
        return found
    marked = marked_round(found, verdict)
    kept = {found[0], found[(len(found) - 1) // 2], found[-1]}
    return sorted(kept | ({marked} if marked is not None else set()))


def _list_means(
    rows: Iterable[Row], field: str, x: Callable[[Row, int], Sequence[float]], scale: Scale
) -> list[tuple[float, float, float]]:
    """Averages lists by place, over the replicates whose lists are as long as the longest."""
    lists = [(row, row[field]) for row in rows if isinstance(row.get(field), list)]
    longest = max((len(values) for _, values in lists), default=0)
    whole = [(row, values) for row, values in lists if len(values) == longest]
    places = x(whole[0][0], longest) if longest else ()
    points = []
    for i in range(min(longest, len(places))):
        found = [scale.factor * y for _, values in whole if (y := number(values[i])) is not None]
        if found:
            points.append((places[i], mean(found), std(found) or 0.0))
    return points


def _drawable(
    points: Sequence[tuple[float, float, float]], scale: Scale
) -> Sequence[tuple[float, float, float]]:
    """Leaves out what a logarithmic axis cannot show."""
    return [point for point in points if point[1] > 0] if scale.logarithmic_y else points
