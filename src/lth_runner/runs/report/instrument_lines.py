"""How a field of the rows becomes a panel: its lines, what it is drawn against, what is said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure

from lth_runner.runs.report import drawing
from lth_runner.runs.report.drawing import MUTED, LineStyle
from lth_runner.runs.report.lines import (
    PERCENT,
    Curve,
    Scale,
    against_density,
    along_list,
    by_layer,
    by_step,
)
from lth_runner.runs.report.rows import TICKET, Row, Run, number
from lth_runner.runs.report.verdict import Verdict
from lth_runner.runs.report.wording import joined

Level = tuple[float, str]
DASHED, DOTTED = "--", ":"
TOLERANCE = 0.02  # `probe.instability.tolerance` where the config does not say


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


Line = Each | Beside


@dataclass(frozen=True)
class Instrument:
    """A panel: it appears where a row has the field of its first line.

    `level`: a horizontal line and its name. `note`: what is said of this very run.
    """

    key: str
    heading: str
    reading: str
    scale: Scale
    lines: tuple[Line, ...]
    draw: Callable[[Run, Verdict, Instrument], Figure | None]
    level: Callable[[Run], Level | None]
    note: Callable[[Run], str]


def _curves(run: Run, lines: Sequence[Line]) -> list[Curve]:
    curves = []
    for line in lines:
        if isinstance(line, Beside):
            colour = MUTED if line.shade is None else drawing.colour(line.shade)
            curves.append(Curve(TICKET, line.field, line.label, colour, line.style, ""))
            continue
        for index, arm in enumerate(run.arms):
            label = f"{arm}, {line.label}" if line.label else arm
            mark = drawing.marker(index) if line.style == "-" else ""
            colour = drawing.colour(index)
            width = 3.2 if arm == TICKET else 1.6  # a control of the same mask lies upon it
            curves.append(Curve(arm, line.field, label, colour, line.style, mark, width))
    return curves


def density_lines(run: Run, verdict: Verdict, one: Instrument) -> Figure | None:
    return against_density(run, _curves(run, one.lines), scale=one.scale, level=one.level(run))


def layer_lines(run: Run, verdict: Verdict, one: Instrument) -> Figure | None:
    return by_layer(run, verdict, _curves(run, one.lines), one.scale, one.level(run))


def step_lines(run: Run, verdict: Verdict, one: Instrument) -> Figure | None:
    return by_step(run, _curves(run, one.lines), one.scale, one.level(run))


def along(places: Callable[[Row, int], Sequence[float]]) -> Callable[..., Figure | None]:
    """Draws a list by the places that its row gives it."""

    def draw(run: Run, verdict: Verdict, one: Instrument) -> Figure | None:
        return along_list(run, verdict, one.lines[0].field, places, one.scale, one.level(run))

    return draw


def path(row: Row, length: int) -> Sequence[float]:
    return [i / max(length - 1, 1) for i in range(length)]


def counted(row: Row, length: int) -> Sequence[float]:
    return range(1, length + 1)


def trajectory_steps(row: Row, length: int) -> Sequence[float]:
    steps = row.get("trajectory_steps")
    return steps if isinstance(steps, list) and len(steps) == length else range(1, length + 1)


def _option(run: Run, *path: str) -> Any:
    node: Any = run.config
    for key in path:
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _none(run: Run) -> None:
    return None


def _silent(run: Run) -> str:
    return ""


def at(value: float, name: str) -> Callable[[Run], Level]:
    return lambda run: (value, name)


def stable_below(probe: str) -> Callable[[Run], Level]:
    def level(run: Run) -> Level:
        tolerance = number(_option(run, "probe", probe, "tolerance")) or TOLERANCE
        return PERCENT * tolerance, f"{PERCENT * tolerance:g} points:\nstable below"

    return level


def guessing(run: Run) -> Level | None:
    classes = number(_option(run, "dataset", "num_classes"))
    return (PERCENT / classes, "guessing") if classes else None


def random_distance(run: Run) -> Level | None:
    sparsity = number(_option(run, "probe", "mask_distance", "sparsity"))
    return (2 * sparsity * (1 - sparsity), "two random\nmasks") if sparsity else None


def vacuous(run: Run) -> str:
    """Where the bounds say nothing, in a sentence for each."""
    said = []
    for name, bound in (("counting bound", "mdl_bound"), ("Occam bound", "occam_bound")):
        flags = [x for row in run.rows if (x := number(row.get(f"{bound}_vacuous"))) is not None]
        empty = sum(flag == 1 for flag in flags)
        if flags and empty == len(flags):
            said.append(f"The {name} is vacuous in every row here: it says nothing.")
        elif empty:
            said.append(f"The {name} is vacuous in {empty} of {len(flags)} rows.")
    return " ".join(said)


def stable_from(run: Run) -> str:
    steps = [(row["seed"], row["stable_from_step"]) for row in run.rows
             if row["arm"] == TICKET and "stable_from_step" in row]  # fmt: skip
    if not steps:
        return ""
    told = [f"{'no step tried' if step is None else f'step {step:g}'} (seed {seed})"
            for seed, step in steps]  # fmt: skip
    return f"Stable from {joined(told)} on."


def instrument(
    key: str,
    heading: str,
    reading: str,
    scale: Scale,
    *lines: Line,
    draw: Callable[..., Figure | None] = density_lines,
    level: Callable[[Run], Level | None] = _none,
    note: Callable[[Run], str] = _silent,
) -> Instrument:
    return Instrument(key, heading, reading, scale, lines, draw, level, note)
