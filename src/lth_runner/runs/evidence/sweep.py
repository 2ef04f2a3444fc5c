"""Several runs as one sweep over rewind step, sparsity and seed, every training counted once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lth_runner.runs.evidence.judge import judge
from lth_runner.runs.evidence.means import density, even_places, is_dense, number
from lth_runner.runs.evidence.merged import (
    ASKED_DENSITY,
    is_chain,
    levels_of,
    merged_run,
    on_levels,
)
from lth_runner.runs.evidence.rows import (
    TICKET,
    FinishedRun,
    asked_sparsity,
    rewind_step,
    step_text,
)
from lth_runner.runs.evidence.settings import flatten
from lth_runner.runs.evidence.tradeoff import Fit, Observation
from lth_runner.runs.evidence.tradeoff_fit import fit
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.runs.incidental import is_incidental
from lth_runner.values.listed import listed
from lth_runner.values.measure import Measure

SWEPT = re.compile(r"seed|replicates|(pruner\.(.+\.)?)?rewind\.step|pruner\.(.+\.)?sparsity")
NO_PART = re.compile(r"name|dataset\.root|control(\..*)?")  # of what decides a ticket
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
        """Finds the ticket's level in a column; None where it is not measured."""
        return None if column.level is None else self.verdict.at(TICKET, column.level)

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
    """Runs that differ in rewind step, sparsity and seed alone; or, `by` pruner, in that too.

    `verdict` is that of the dense trainings of all of them.
    """

    runs: tuple[FinishedRun, ...]
    settings: tuple[Setting, ...]
    columns: tuple[Column, ...]
    verdict: Verdict
    fit: Fit | None = None
    by: str = "rewind step"  # what a setting is

    @property
    def name(self) -> str:
        """The runs' name, or names: one question may be asked under several."""
        return listed(list(dict.fromkeys(run.name for run in self.runs)))

    @property
    def measure(self) -> Measure:
        """The headline measure that all runs share."""
        return self.runs[0].measure

    @property
    def dense(self) -> Level | None:
        """The dense network's level."""
        return self.verdict.dense

    @property
    def tolerance(self) -> float:
        """What a matching ticket may lose; the strictest of the runs'."""
        return self.verdict.tolerance

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of all runs."""
        return tuple(sorted({seed for run in self.runs for seed in run.seeds}))

    @property
    def shown(self) -> tuple[Column, ...]:
        """The sparsities asked for; where that is one, measured ones evenly down to it."""
        asked = tuple(column for column in self.columns if column.asked)
        return asked if len(asked) > 1 else thinned(self.columns, MAX_COLUMNS)

    @cached_property
    def cost(self) -> Cost:
        """Adds up the steps and trainings of all rows of all runs."""
        rows = [
            row for run in self.runs for row in run.rows if number(row.get("steps")) is not None
        ]
        reused = [row for row in rows if row.get("reused") is True]
        told = [run.status.get("steps") for run in self.runs]
        replayed = [steps for one in told if isinstance(one, Mapping)
                    and (steps := number(one.get("replayed"))) is not None]  # fmt: skip
        return Cost(
            asked=sum(int(row["steps"]) for row in rows),
            reused=sum(int(row["steps"]) for row in reused),
            num_trainings=len(rows),
            num_reused=len(reused),
            replayed=int(sum(replayed)) if replayed else None,
        )


def thinned(columns: Sequence[Column], most: int) -> tuple[Column, ...]:
    """Thins to at most so many, evenly, unless all were asked for; first and last stay."""
    if all(column.asked for column in columns):
        return tuple(columns)
    return tuple(columns[place] for place in even_places(len(columns), most))


# --- which runs belong together


def find_sweeps(runs: Sequence[FinishedRun]) -> tuple[Sweep, ...]:
    """Groups the runs, same but for seed, with two or more sparsities or rewind steps."""
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        key = described(run, lambda key: not SWEPT.fullmatch(key))
        groups.setdefault(key, []).append(run)
    return tuple(_sweep(group) for group in groups.values() if _is_swept(group))


def described(run: FinishedRun, counts: Callable[[str], bool]) -> str:
    """Describes those settings of a run that decide its tickets and that count."""
    kept = {
        key: value
        for key, value in flatten(run.config).items()
        if counts(key) and not is_incidental(key) and not NO_PART.fullmatch(key)
    }
    return json.dumps([run.measure.name, kept], sort_keys=True, default=str)


def _is_swept(runs: Sequence[FinishedRun]) -> bool:
    sparsities = {asked_sparsity(run) for run in runs} - {None}
    return len(sparsities) > 1 or len({step_text(run) for run in runs}) > 1


def _sweep(runs: Sequence[FinishedRun]) -> Sweep:
    pruned = [row for run in runs for row in run.rows if not is_dense(row)]
    levels = levels_of(value for value in map(density, pruned) if value is not None)
    merged = merged_run(runs)
    groups: dict[int | str, list[FinishedRun]] = {}
    for run in runs:
        step = rewind_step(run)
        groups.setdefault(step_text(run) if step is None else step, []).append(run)
    settings = [_rewound(merged, levels, group, key) for key, group in groups.items()]
    settings.sort(key=lambda one: (one.step is None, one.step or 0, one.label))
    measured = {row["round"] - 1 for one in settings for row in one.run.rows if not is_dense(row)}
    columns = columns_of(measured & set(range(len(levels))), levels, runs)
    verdict = judge(merged)
    return Sweep(tuple(runs), tuple(settings), columns, verdict, _fit(merged, settings, verdict))


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


def setting_of(
    merged: FinishedRun, levels: Sequence[float], runs: Sequence[FinishedRun], label: str,
    step: int | None = None,
) -> Setting:  # fmt: skip
    """Merges runs' rows into one setting."""
    run = on_levels(merged, levels, runs)
    return Setting(label, step, run, judge(run), is_chain(runs))


def columns_of(
    measured: Iterable[int], levels: Sequence[float], runs: Sequence[FinishedRun]
) -> tuple[Column, ...]:
    """Lists the measured levels, and the sparsities asked for that none of them stands for."""
    columns = {i: Column(1 - levels[i], i + 1, asked=False) for i in measured}
    unmeasured = []
    for sparsity in sorted({s for run in runs if (s := asked_sparsity(run)) is not None}):
        near = min(columns, key=lambda i: abs(levels[i] - 1 + sparsity), default=None)
        if near is not None and abs(levels[near] - 1 + sparsity) <= ASKED_DENSITY * (1 - sparsity):
            columns[near] = replace(columns[near], asked=True)
        else:
            unmeasured.append(Column(sparsity, None, asked=True))
    return tuple(sorted([*columns.values(), *unmeasured], key=lambda column: column.sparsity))


# --- the model of their trade-off


def _fit(merged: FinishedRun, settings: Sequence[Setting], verdict: Verdict) -> Fit | None:
    """Fits the dense trainings and every ticket of known rewind step with what they reached."""
    dense = verdict.dense
    if dense is None or dense.mean is None or dense.at_chance or verdict.measure.better == "lower":
        return None
    trained = merged.values(TICKET, dense.round, merged.outcome)
    points = [Observation(0, 0.0, seed, value) for seed, value in trained.items()]
    points += [
        Observation(one.step, level.sparsity, seed, value)
        for one in settings
        if one.step is not None
        for level in one.verdict.of(TICKET)
        if level.density > 0  # the model has no accuracy of no weights
        for seed, value in one.run.values(TICKET, level.round, one.run.outcome).items()
    ]
    return fit(points, tolerance=verdict.tolerance)
