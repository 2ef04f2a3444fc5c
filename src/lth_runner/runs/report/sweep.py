"""Several runs as one sweep over rewind step, sparsity and seed: every training counted once."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lth_runner.runs.report.compare import common_parent, flatten
from lth_runner.runs.report.rows import (
    ACCURACY,
    FIRST_ROUND,
    TICKET,
    Row,
    Run,
    density,
    is_dense,
    mean,
    number,
)
from lth_runner.runs.report.tradeoff import Fit, Point, fit
from lth_runner.runs.report.verdict import Level, Verdict, judge

SWEPT = re.compile(r"seed|replicates|(pruner\.(.+\.)?)?rewind\.step|pruner\.(.+\.)?sparsity")
# What cannot change a ticket; the tolerance is settled for the sweep as a whole.
INCIDENTAL = re.compile(
    r"(name|threads|train\.checkpoint_minutes|train\.snapshots|dataset\.root)$"
    r"|(paths|record|report|probe|control)(\.|$)"
)
SAME_DENSITY = 1e-4  # relative: rounding to whole weights
ASKED_DENSITY = 1e-2  # relative: a measured density this near stands for the one asked for
MAX_COLUMNS = 16


@dataclass(frozen=True)
class Column:
    """A sparsity of the sweep; `level` is its round in the merged runs, None when unmeasured."""

    sparsity: float
    level: int | None
    asked: bool


@dataclass(frozen=True)
class Line:
    """One rewind step: its rows from all runs as one run, whose round r is the sweep's level r.

    `step` is in optimizer steps; None where config and rows do not tell it.
    """

    label: str
    step: int | None
    run: Run
    verdict: Verdict

    def at(self, column: Column) -> Level | None:
        return None if column.level is None else self.verdict.at(TICKET, column.level)

    @property
    def last(self) -> Level | None:
        """The sparsest level measured."""
        return next((x for x in reversed(self.verdict.of(TICKET)) if x.mean is not None), None)

    def by_seed(self) -> dict[int, Verdict]:
        """The verdict on each seed alone."""
        seeds = sorted({row["seed"] for row in self.run.rows if not is_dense(row)})
        return {
            seed: judge(_with(self.run, [row for row in self.run.rows if row["seed"] == seed]))
            for seed in seeds
        }


@dataclass(frozen=True)
class Cost:
    """Training steps and trainings over all rows of all runs; `run` = asked - reused.

    `replayed`: steps run again for snapshots and probes, of the runs that recorded them.
    """

    asked: int
    reused: int
    num_trainings: int
    num_reused: int
    replayed: int | None = None

    @property
    def run(self) -> int:
        return self.asked - self.reused


@dataclass(frozen=True)
class Sweep:
    """Runs that differ in rewind step, sparsity and seed alone."""

    runs: tuple[Run, ...]
    lines: tuple[Line, ...]
    columns: tuple[Column, ...]
    dense: Level | None
    tolerance: float
    cost: Cost
    fit: Fit | None
    by: str = "rewind step"  # what a line is: its runs share it

    @property
    def name(self) -> str:
        return self.runs[0].name

    @property
    def unfinished(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.state != "done")

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(sorted({row["seed"] for run in self.runs for row in run.rows}))

    @property
    def shown(self) -> tuple[Column, ...]:
        """The sparsities asked for; where that is one, measured ones evenly down to it."""
        asked = tuple(column for column in self.columns if column.asked)
        return asked if len(asked) > 1 else thinned(self.columns, MAX_COLUMNS)


def thinned(columns: Sequence[Column], most: int) -> tuple[Column, ...]:
    """At most so many, evenly, unless all were asked for; first and last are among them."""
    last = len(columns) - 1
    if last < most or all(column.asked for column in columns):
        return tuple(columns)
    places = {round(i * last / (most - 1)) for i in range(most)}
    return tuple(columns[place] for place in sorted(places))


def find_sweeps(runs: Sequence[Run]) -> tuple[Sweep, ...]:
    """The groups of runs, same but for seed, with two or more sparsities or rewind steps."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_constant(run.config), []).append(run)
    return tuple(_sweep(group) for group in groups.values() if _is_swept(group))


def _constant(config: Mapping[str, Any]) -> str:
    kept = {
        key: value
        for key, value in flatten(config).items()
        if not SWEPT.fullmatch(key) and not INCIDENTAL.match(key)
    }
    return json.dumps(kept, sort_keys=True, default=str)


def _is_swept(runs: Sequence[Run]) -> bool:
    sparsities = {asked_sparsity(run) for run in runs} - {None}
    return len(sparsities) > 1 or len({_text(run) for run in runs}) > 1


def asked_sparsity(run: Run) -> float | None:
    return number(flatten(run.config).get("pruner.sparsity"))


def _text(run: Run) -> str:
    value = flatten(run.config).get("rewind.step")
    return "" if value is None else str(value) if isinstance(value, str) else f"{value}it"


def _sweep(runs: Sequence[Run]) -> Sweep:
    tolerance = min(run.tolerance for run in runs)
    pruned = [row for run in runs for row in run.rows if not is_dense(row)]
    levels = levels_of(value for value in map(density, pruned) if value is not None)
    dense_rows = [row for run in runs for row in run.rows if is_dense(row)]
    merged = merged_run(runs, dense_rows, tolerance)
    dense = judge(merged).dense
    groups: dict[int | str, list[Run]] = {}
    for run in runs:
        step = rewind_step(run)
        groups.setdefault(_text(run) if step is None else step, []).append(run)
    lines = [_rewound(merged, levels, group, key) for key, group in groups.items()]
    lines.sort(key=lambda line: (line.step is None, line.step or 0, line.label))
    return Sweep(
        runs=tuple(runs),
        lines=tuple(lines),
        columns=columns_of(levels, {s for run in runs if (s := asked_sparsity(run)) is not None}),
        dense=dense,
        tolerance=tolerance,
        cost=cost_of(runs),
        fit=_fit(lines, dense, tolerance),
    )


def merged_run(runs: Sequence[Run], dense_rows: Iterable[Row], tolerance: float) -> Run:
    """The dense trainings of several runs as one run, for lines to add their rows to."""
    return dataclasses.replace(
        runs[0],
        folder=common_parent(runs),
        config={**runs[0].config, "report": {"tolerance": tolerance}},
        status={},
        rows=tuple(_once(dense_rows)),
    )


def line_of(
    merged: Run, levels: Sequence[float], runs: Sequence[Run], label: str, step: int | None = None
) -> Line:
    """The rows of some runs as one line; of a run's rounds of equal density the last counts."""
    rows: list[Row] = []
    for run in runs:
        latest: dict[tuple[int, str, int], Row] = {}
        for row in run.rows:
            if not is_dense(row) and (kept := density(row)) is not None:
                level = 1 + min(range(len(levels)), key=lambda i: abs(levels[i] - kept))
                latest[level, row["arm"], row["seed"]] = {**row, "round": level}
        rows += latest.values()
    run = _with(merged, [*merged.rows, *_once(rows)])
    return Line(label, step, run, judge(run))


def _rewound(merged: Run, levels: Sequence[float], runs: Sequence[Run], key: int | str) -> Line:
    step = key if isinstance(key, int) else None
    texts = sorted({_text(one) for one in runs}, key=lambda text: (not text.endswith("it"), text))
    label = " = ".join(texts)
    if step is not None and not texts[0].endswith("it"):
        label += f" (step {step})"
    return line_of(merged, levels, runs, label or "not set", step)


def rewind_step(run: Run) -> int | None:
    """The optimizer step that the run's tickets are rewound to; None where nothing tells it.

    Whole steps (500it) stand in the config; of epochs and shares, and where a training was shrunk,
    the start of the tickets tells, unless their clock starts over.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(it|ep|%)\s*", _text(run))
    flat = flatten(run.config)
    if match and (float(match[1]) == 0 or (match[2] == "it" and not flat.get("train.shrink_to"))):
        return int(float(match[1]))
    if flat.get("rewind.lr_clock") != "restart":
        tickets = [row for row in run.rows if row["arm"] == TICKET and not is_dense(row)]
        starts = {row["start_step"] for row in tickets if isinstance(row.get("start_step"), int)}
        if len(starts) == 1:
            return int(starts.pop())
    lengths = {number(row.get("steps")) for row in run.rows if row["round"] == FIRST_ROUND}
    total = next(iter(lengths), None)
    if match is None or total is None:
        return None
    if match[2] == "%":
        return round(float(match[1]) / 100 * total)
    whole = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(it|ep)\s*", str(flat.get("train.length")))
    same_unit = whole is not None and whole[2] == match[2] and float(whole[1]) > 0
    return round(float(match[1]) / float(whole[1]) * total) if whole and same_unit else None


def levels_of(densities: Iterable[float]) -> tuple[float, ...]:
    """Falling densities, those that differ by rounding alone as one."""
    found: list[float] = []
    for value in sorted(densities, reverse=True):
        if not found or found[-1] - value > SAME_DENSITY * found[-1]:
            found.append(value)
    return tuple(found)


def columns_of(levels: Sequence[float], asked: Iterable[float]) -> tuple[Column, ...]:
    columns = {i: Column(1 - kept, i + 1, asked=False) for i, kept in enumerate(levels)}
    unmeasured = []
    for sparsity in sorted(asked):
        near = min(range(len(levels)), key=lambda i: abs(levels[i] - 1 + sparsity), default=None)
        if near is not None and abs(levels[near] - 1 + sparsity) <= ASKED_DENSITY * (1 - sparsity):
            columns[near] = Column(1 - levels[near], near + 1, asked=True)
        else:
            unmeasured.append(Column(sparsity, None, asked=True))
    return tuple(sorted([*columns.values(), *unmeasured], key=lambda column: column.sparsity))


def _once(rows: Iterable[Row]) -> list[Row]:
    """One row per (round, arm, seed); distinct trainings of the same are averaged."""
    places: dict[tuple[int, str, int], dict[Any, Row]] = {}
    for row in rows:
        place = (row["round"], row["arm"], row["seed"])
        places.setdefault(place, {}).setdefault(row.get("training_key"), row)
    return [_averaged(tuple(found.values())) for found in places.values()]


def _averaged(rows: Sequence[Row]) -> Row:
    values = [value for row in rows if (value := number(row.get(ACCURACY))) is not None]
    if len(rows) == 1 or not values:
        return rows[0]
    return {**rows[0], ACCURACY: mean(values), "diverged": any(r.get("diverged") for r in rows)}


def _with(run: Run, rows: Iterable[Row]) -> Run:
    return dataclasses.replace(run, rows=tuple(rows))


def cost_of(runs: Sequence[Run]) -> Cost:
    rows = [row for run in runs for row in run.rows if number(row.get("steps")) is not None]
    reused = [row for row in rows if row.get("reused") is True]
    recorded = [
        replayed
        for run in runs
        if isinstance(steps := run.status.get("steps"), Mapping)
        and (replayed := number(steps.get("replayed"))) is not None
    ]
    return Cost(
        asked=sum(int(row["steps"]) for row in rows),
        reused=sum(int(row["steps"]) for row in reused),
        num_trainings=len(rows),
        num_reused=len(reused),
        replayed=int(sum(recorded)) if recorded else None,
    )


def _fit(lines: Sequence[Line], dense: Level | None, tolerance: float) -> Fit | None:
    if dense is None or dense.mean is None or dense.at_chance:
        return None
    return fit(points(lines), dense=dense.mean, tolerance=tolerance)


def points(lines: Iterable[Line]) -> tuple[Point, ...]:
    """Every ticket of known rewind step with its accuracy."""
    return tuple(
        Point(line.step, level.sparsity, seed, accuracy)
        for line in lines
        if line.step is not None
        for level in line.verdict.of(TICKET)
        for seed, accuracy in line.run.values(TICKET, level.round, ACCURACY).items()
    )
