"""Several runs as one sweep over rewind step, sparsity and seed, every training counted once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from lth_runner.runs.report.rows import (
    FIRST_ROUND,
    TICKET,
    FinishedRun,
    Row,
    density,
    is_dense,
    mean,
    number,
)
from lth_runner.runs.report.settings import (
    asked_sparsity,
    common_parent,
    flatten,
    rewind_step,
    step_text,
)
from lth_runner.runs.report.tradeoff import Fit, Observation, fit
from lth_runner.runs.report.verdict import Level, Verdict, judge
from lth_runner.values.measure import Measure

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
class Setting:
    """One rewind step or pruner: its rows from all runs as one run, whose round r is level r.

    `step` is in optimizer steps; None where config and rows do not tell it. `is_chain`: whether
    its runs pass through the same tickets. Where they do not, it holds their last tickets alone.
    """

    label: str
    step: int | None
    run: FinishedRun
    verdict: Verdict
    is_chain: bool = True

    def at(self, column: Column) -> Level | None:
        """Finds an arm's level in a column; None where it is not measured."""
        return None if column.level is None else self.verdict.at(TICKET, column.level)

    @property
    def last(self) -> Level | None:
        """Finds the sparsest level measured."""
        return self.verdict.last()

    def by_seed(self) -> dict[int, Verdict]:
        """Judges each seed alone."""
        seeds = sorted({row["seed"] for row in self.run.rows if not is_dense(row)})
        rows = {seed: [row for row in self.run.rows if row["seed"] == seed] for seed in seeds}
        return {seed: judge(replace(self.run, rows=tuple(own))) for seed, own in rows.items()}


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
    """Runs that differ in rewind step, sparsity and seed alone; or, `by` pruner, in that too."""

    runs: tuple[FinishedRun, ...]
    settings: tuple[Setting, ...]
    columns: tuple[Column, ...]
    dense: Level | None
    tolerance: float
    cost: Cost
    fit: Fit | None
    by: str = "rewind step"  # what a setting is

    @property
    def name(self) -> str:
        """The runs' common name."""
        return self.runs[0].name

    @property
    def measure(self) -> Measure:
        """The headline measure that all runs share."""
        return self.runs[0].measure

    @property
    def unfinished(self) -> tuple[FinishedRun, ...]:
        """The runs that are not done."""
        return tuple(run for run in self.runs if run.state != "done")

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all runs."""
        return tuple(sorted({seed for run in self.runs for seed in run.seeds}))

    @property
    def shown(self) -> tuple[Column, ...]:
        """The sparsities asked for; where that is one, measured ones evenly down to it."""
        asked = tuple(column for column in self.columns if column.asked)
        return asked if len(asked) > 1 else thinned(self.columns, MAX_COLUMNS)


def thinned(columns: Sequence[Column], most: int) -> tuple[Column, ...]:
    """Thins to at most so many, evenly, unless all were asked for; first and last stay."""
    last = len(columns) - 1
    if last < most or all(column.asked for column in columns):
        return tuple(columns)
    places = {round(i * last / (most - 1)) for i in range(most)}
    return tuple(columns[place] for place in sorted(places))


def find_sweeps(runs: Sequence[FinishedRun]) -> tuple[Sweep, ...]:
    """Groups the runs, same but for seed, with two or more sparsities or rewind steps."""
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        kept = {
            key: value
            for key, value in flatten(run.config).items()
            if not SWEPT.fullmatch(key) and not INCIDENTAL.match(key)
        }
        same = json.dumps([run.measure.name, kept], sort_keys=True, default=str)
        groups.setdefault(same, []).append(run)
    return tuple(_sweep(group) for group in groups.values() if _is_swept(group))


def _is_swept(runs: Sequence[FinishedRun]) -> bool:
    sparsities = {asked_sparsity(run) for run in runs} - {None}
    return len(sparsities) > 1 or len({step_text(run) for run in runs}) > 1


def _sweep(runs: Sequence[FinishedRun]) -> Sweep:
    pruned = [row for run in runs for row in run.rows if not is_dense(row)]
    levels = levels_of(value for value in map(density, pruned) if value is not None)
    merged = merged_run(runs)
    verdict = judge(merged)
    groups: dict[int | str, list[FinishedRun]] = {}
    for run in runs:
        step = rewind_step(run)
        groups.setdefault(step_text(run) if step is None else step, []).append(run)
    settings = [_rewound(merged, levels, group, key) for key, group in groups.items()]
    settings.sort(key=lambda one: (one.step is None, one.step or 0, one.label))
    return Sweep(
        runs=tuple(runs),
        settings=tuple(settings),
        columns=columns_of(_measured(settings, levels), levels, runs),
        dense=verdict.dense,
        tolerance=verdict.tolerance,
        cost=cost_of(runs),
        fit=_fit(settings, verdict),
    )


def merged_run(runs: Sequence[FinishedRun]) -> FinishedRun:
    """Merges the dense trainings of several runs into one run, for settings to add rows to.

    The strictest tolerance holds for all.
    """
    outcome = runs[0].outcome
    dense = _once((row for run in runs for row in run.rows if is_dense(row)), outcome)
    values = [value for row in dense if (value := number(row.get(outcome))) is not None]
    centre = mean(values) if values else None
    strictest = min(runs, key=lambda run: run.tolerance.of(centre))
    return replace(strictest, folder=common_parent(runs), status={}, rows=tuple(dense))


def setting_of(
    merged: FinishedRun, levels: Sequence[float], runs: Sequence[FinishedRun], label: str,
    step: int | None = None,
) -> Setting:  # fmt: skip
    """Merges runs' rows into one setting; of a run's rounds of equal density the last counts."""
    chain = is_chain(runs)
    rows: list[Row] = []
    for run in runs:
        last = max(run.rounds(TICKET), default=FIRST_ROUND)
        latest: dict[tuple[int, str, int], Row] = {}
        for row in run.rows:
            if is_dense(row) or (kept := density(row)) is None:
                continue
            if chain or row["round"] == last:
                level = 1 + min(range(len(levels)), key=lambda i: abs(levels[i] - kept))
                latest[level, row["arm"], row["seed"]] = {**row, "round": level}
        rows += latest.values()
    run = replace(merged, rows=(*merged.rows, *_once(rows, merged.outcome)))
    return Setting(label, step, run, judge(run), chain)


def is_chain(runs: Sequence[FinishedRun]) -> bool:
    """Returns whether longer runs pass what shorter ones passed on the way to their last ticket.

    So it is where a rate says how much goes in each round, not where rounds are as many as asked.
    """
    ways = [
        [kept for round in run.rounds(TICKET)
         if round != run.dense_round and (kept := run.density(TICKET, round)) is not None]
        for run in runs
    ]  # fmt: skip
    ways.sort(key=len)
    return all(
        abs(a - b) <= ASKED_DENSITY * a
        for shorter, longer in pairwise(ways)
        for a, b in zip(shorter[:-1], longer[:-1], strict=False)
    )


def _rewound(
    merged: FinishedRun, levels: Sequence[float], runs: Sequence[FinishedRun], key: int | str
) -> Setting:
    step = key if isinstance(key, int) else None
    texts = sorted({step_text(one) for one in runs},
                   key=lambda text: (not text.endswith("it"), text))  # fmt: skip
    label = " = ".join(texts)
    if step is not None and not texts[0].endswith("it"):
        label += f" (step {step})"
    return setting_of(merged, levels, runs, label or "not set", step)


def levels_of(densities: Iterable[float]) -> tuple[float, ...]:
    """Lists falling densities, those that differ by rounding alone as one."""
    found: list[float] = []
    for value in sorted(densities, reverse=True):
        if not found or found[-1] - value > SAME_DENSITY * found[-1]:
            found.append(value)
    return tuple(found)


def _measured(settings: Sequence[Setting], levels: Sequence[float]) -> set[int]:
    """Lists the levels that some setting has, as indices."""
    found = {row["round"] - 1 for one in settings for row in one.run.rows if not is_dense(row)}
    return found & set(range(len(levels)))


def columns_of(
    measured: Iterable[int], levels: Sequence[float], runs: Sequence[FinishedRun]
) -> tuple[Column, ...]:
    """Lists the measured levels, and the sparsities asked for that none of them stands for."""
    columns = {i: Column(1 - levels[i], i + 1, asked=False) for i in measured}
    unmeasured = []
    for sparsity in sorted({s for run in runs if (s := asked_sparsity(run)) is not None}):
        near = min(columns, key=lambda i: abs(levels[i] - 1 + sparsity), default=None)
        if near is not None and abs(levels[near] - 1 + sparsity) <= ASKED_DENSITY * (1 - sparsity):
            columns[near] = Column(1 - levels[near], near + 1, asked=True)
        else:
            unmeasured.append(Column(sparsity, None, asked=True))
    return tuple(sorted([*columns.values(), *unmeasured], key=lambda column: column.sparsity))


def _once(rows: Iterable[Row], outcome: str) -> list[Row]:
    """Keeps one row per (round, arm, seed); distinct trainings of the same are averaged."""
    places: dict[tuple[int, str, int], dict[Any, Row]] = {}
    for row in rows:
        place = (row["round"], row["arm"], row["seed"])
        places.setdefault(place, {}).setdefault(row.get("training_key"), row)
    return [_averaged(tuple(found.values()), outcome) for found in places.values()]


def _averaged(rows: Sequence[Row], outcome: str) -> Row:
    values = [value for row in rows if (value := number(row.get(outcome))) is not None]
    if len(rows) == 1 or not values:
        return rows[0]
    return {**rows[0], outcome: mean(values), "diverged": any(r.get("diverged") for r in rows)}


def cost_of(runs: Sequence[FinishedRun]) -> Cost:
    """Adds up the steps and trainings of all rows of all runs."""
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


def _fit(settings: Sequence[Setting], verdict: Verdict) -> Fit | None:
    dense = verdict.dense
    if dense is None or dense.mean is None or dense.at_chance or verdict.measure.better == "lower":
        return None
    return fit(observations(settings), dense=dense.mean, tolerance=verdict.tolerance)


def observations(settings: Iterable[Setting]) -> tuple[Observation, ...]:
    """Lists every ticket of known rewind step with what it reached."""
    return tuple(
        Observation(one.step, level.sparsity, seed, value)
        for one in settings
        if one.step is not None
        for level in one.verdict.of(TICKET)
        for seed, value in one.run.values(TICKET, level.round, one.run.outcome).items()
    )
