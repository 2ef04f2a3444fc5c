"""Runs that differ in their pruner: one line each, what its masks cost to find, what they keep."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lth_runner.runs.report.rows import (
    TICKET,
    FinishedRun,
    Row,
    class_name,
    density,
    is_dense,
    mean,
    number,
    object_means,
)
from lth_runner.runs.report.sanity import Check, checks
from lth_runner.runs.report.settings import (
    SEEDS,
    asked_sparsity,
    differences,
    flatten,
    rewind_step,
)
from lth_runner.runs.report.sweep import (
    ASKED_DENSITY,
    INCIDENTAL,
    SWEPT,
    Column,
    Setting,
    Sweep,
    columns_of,
    cost_of,
    levels_of,
    merged_run,
    setting_of,
)
from lth_runner.runs.report.verdict import judge

MAX_NAMED_KEYS = 2


@dataclass(frozen=True)
class Effort:
    """What finding the masks of one sparsity took, before their tickets' own training.

    Means over the seeds. `trainings`, `steps` and `seconds` are of the trainings that the mask was
    made from, whoever did them and whether or not they were reused; `search` are the seconds of
    the search itself, None where the run did not record them. `source` says what the masks were
    made from. `own_steps` and `own_seconds`: the ticket's training.
    """

    label: str
    sparsity: float
    source: str
    n: int
    trainings: float
    steps: float
    seconds: float
    search: float | None
    own_steps: float
    own_seconds: float

    @property
    def total(self) -> float:
        """Seconds until the mask is there."""
        return self.seconds + (self.search or 0.0)


@dataclass(frozen=True)
class Comparison:
    """Pruners side by side; the sweep's settings are the pruners."""

    sweep: Sweep
    efforts: tuple[Effort, ...]
    layers: Mapping[tuple[str, int], Mapping[str, float]]  # (pruner, level) -> density by layer

    @property
    def columns(self) -> tuple[Column, ...]:
        """The measured sparsities to show."""
        return tuple(column for column in self.sweep.shown if column.level is not None)

    def checks(self, one: Setting) -> tuple[Check, ...]:
        """The sanity checks of a pruner at the sparsities shown."""
        shown = {column.level for column in self.columns}
        found = checks(one.run, one.verdict, pruner=one.label)
        return tuple(check for check in found if check.level.round in shown)


def find_pruners(runs: Sequence[FinishedRun]) -> tuple[Comparison, ...]:
    """Groups the runs that are the same but for pruner, its sparsity and seed, with several."""
    groups: dict[str, dict[str, list[FinishedRun]]] = {}
    for run in runs:
        methods = groups.setdefault(_key(run, pruner=False), {})
        methods.setdefault(_key(run, pruner=True), []).append(run)
    return tuple(_comparison(list(found.values())) for found in groups.values() if len(found) > 1)


def _key(run: FinishedRun, *, pruner: bool) -> str:
    """Describes what runs of one comparison share; or of one pruner, without copies from rewind."""
    kept = {
        key: value
        for key, value in flatten(run.config).items()
        if key.startswith("pruner.") is pruner
        and not SEEDS.fullmatch(key)
        and not INCIDENTAL.match(key)
        and not (pruner and SWEPT.fullmatch(key))
    }
    return json.dumps([run.measure.name, kept], sort_keys=True, default=str)


def _comparison(groups: Sequence[Sequence[FinishedRun]]) -> Comparison:
    runs = [run for group in groups for run in group]
    asked = {s for run in runs if (s := asked_sparsity(run)) is not None}
    groups = [[_snapped(run, asked) for run in group] for group in groups]
    merged = merged_run(runs)
    verdict = judge(merged)
    levels = levels_of(_density(row) for group in groups for run in group for row in _pruned(run))
    names = _labels(groups)
    settings = [
        setting_of(merged, levels, group, name) for group, name in zip(groups, names, strict=True)
    ]
    settings.sort(key=_quality)
    sweep = Sweep(
        runs=tuple(runs),
        settings=tuple(settings),
        columns=columns_of(range(len(levels)), levels, runs),
        dense=verdict.dense,
        tolerance=verdict.tolerance,
        cost=cost_of(runs),
        fit=None,
        by="pruner",
    )
    efforts = [
        effort
        for group, name in zip(groups, names, strict=True)
        for effort in _efforts(group, name)
    ]
    order = [one.label for one in settings]
    efforts.sort(key=lambda effort: (order.index(effort.label), effort.sparsity))
    layers = {
        (one.label, level): {
            name: 100 * value
            for name, (value, _) in object_means(one.run.at(TICKET, level), "layer_density").items()
        }
        for one in settings
        for level in range(1, len(levels) + 1)
    }
    return Comparison(sweep, tuple(efforts), layers)


def _pruned(run: FinishedRun) -> Iterator[Row]:
    return (row for row in run.rows if not is_dense(row) and density(row) is not None)


def _density(row: Row) -> float:
    found = density(row)
    assert found is not None
    return found


def _snapped(run: FinishedRun, asked: set[float]) -> FinishedRun:
    """Makes densities equal that stand for one asked for, up to rounding by layer."""

    def near(row: Row) -> Row:
        kept = density(row)
        if kept is None or is_dense(row):
            return row
        goal = min((1 - s for s in asked), key=lambda goal: abs(goal - kept), default=kept)
        return {**row, "density": goal} if abs(goal - kept) <= ASKED_DENSITY * goal else row

    return replace(run, rows=tuple(near(row) for row in run.rows))


def _labels(groups: Sequence[Sequence[FinishedRun]]) -> list[str]:
    """Names the pruners; several of one name with the keys in which they differ."""
    firsts = [group[0] for group in groups]
    names = [run.pruner for run in firsts]
    found = list(names)
    for name in set(names):
        same = [index for index, other in enumerate(names) if other == name]
        keys = [
            (key, values)
            for key, values in differences([firsts[index] for index in same]).items()
            if key.startswith("pruner.") and not SWEPT.fullmatch(key)
        ][:MAX_NAMED_KEYS]
        for place, index in enumerate(same if len(same) > 1 else ()):
            told = [f"{key.removeprefix('pruner.')}={values[place]}" for key, values in keys]
            found[index] = f"{name} ({', '.join(told)})"
    return [name if found.count(name) == 1 else f"{name} {i}" for i, name in enumerate(found, 1)]


def _quality(one: Setting) -> tuple[float, float, str]:
    """Sorts the sparsest first, the best of these first."""
    last = one.last
    if last is None or last.mean is None:
        return (0.0, 0.0, one.label)
    return (-round(last.sparsity, 2), one.verdict.measure.gain(0.0, last.mean), one.label)


def _efforts(group: Sequence[FinishedRun], label: str) -> list[Effort]:
    """Counts what the last tickets of a pruner's runs took, those of one sparsity together."""
    found: dict[float, list[tuple[Row, _Before]]] = {}
    for run in group:
        last = max(run.rounds(TICKET), default=None)
        rows = [] if last is None else run.at(TICKET, last)
        own = [(row, _before(run, row)) for row in rows if not is_dense(row) and density(row)]
        if own:
            found.setdefault(round(1 - mean(_density(row) for row, _ in own), 6), []).extend(own)
    return [_effort(label, tickets) for tickets in found.values()]


def _effort(label: str, tickets: Sequence[tuple[Row, _Before]]) -> Effort:
    rows, before = zip(*tickets, strict=True)
    searches = [one.search for one in before if one.search is not None]
    return Effort(
        label=label,
        sparsity=1 - mean(map(_density, rows)),
        source=before[0].source,
        n=len(rows),
        trainings=mean(one.trainings for one in before),
        steps=mean(one.steps for one in before),
        seconds=mean(one.seconds for one in before),
        search=mean(searches) if len(searches) == len(rows) else None,
        own_steps=mean(number(row.get("steps")) or 0.0 for row in rows),
        own_seconds=mean(number(row.get("seconds")) or 0.0 for row in rows),
    )


@dataclass(frozen=True)
class _Before:
    """What lies before one ticket's training."""

    source: str
    trainings: float
    steps: float
    seconds: float
    search: float | None


def _before(run: FinishedRun, ticket: Row) -> _Before:
    """Finds all earlier trainings of the ticket's seed, or what of them the mask was made from.

    A pruner that decides at the start (`pruner.dense` is a key of these alone) or by chance needs
    the first training up to the rewind step (all of it where another step is scored); early-bird
    up to the epoch that the ticket goes on from; any other, all of them.
    """
    earlier = [
        row
        for round in run.rounds(TICKET)
        for row in run.at(TICKET, round)
        if row["seed"] == ticket["seed"] and round < ticket["round"]
    ]
    times = [number(row.get("search_seconds")) for row in [*earlier, ticket]]
    known = [time for time in times if time is not None]
    search = sum(known) if len(known) == len(times) else None
    part = _part_needed(run, ticket)
    if not earlier:
        static = class_name(run.option("pruner", "masking")) == "Static"
        return _Before("the start" if static else "its own training", 0, 0, 0, search)
    steps = [number(row.get("steps")) or 0.0 for row in earlier]
    seconds = [number(row.get("seconds")) or 0.0 for row in earlier]
    if part is None:
        return _Before("trained weights", len(earlier), sum(steps), sum(seconds), search)
    share = min(part / steps[0], 1.0) if steps[0] else 0.0
    source = f"step {part}" if part else "the start"
    return _Before(source, share, share * steps[0], share * seconds[0], search)


def _part_needed(run: FinishedRun, ticket: Row) -> int | None:
    """Finds the step of the first training that the mask was made at; None: whole trainings."""
    if class_name(run.option("pruner", "search")) == "EarlyBird":
        return int(ticket.get("start_step") or 0)
    by_chance = class_name(run.option("pruner", "search", "score")) == "Random"
    if by_chance or "dense" in (run.option("pruner") or ()):
        return None if run.option("pruner", "score_step") else rewind_step(run) or 0
    return None
