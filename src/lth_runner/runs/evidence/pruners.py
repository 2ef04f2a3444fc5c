"""Runs that differ in their pruner: one line each, and what its masks cost to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lth_runner.runs.evidence.differences import Differences
from lth_runner.runs.evidence.estimate import DIFFERENCE_LEVEL, Estimate, Word
from lth_runner.runs.evidence.judge import Held, judge, words
from lth_runner.runs.evidence.means import density, is_dense, mean, number
from lth_runner.runs.evidence.merged import ASKED_DENSITY, levels_of, merged_run
from lth_runner.runs.evidence.rows import (
    TICKET,
    FinishedRun,
    asked_sparsity,
    class_name,
    rewind_step,
)
from lth_runner.runs.evidence.sanity import Check, checks
from lth_runner.runs.evidence.settings import SEEDS, differences
from lth_runner.runs.evidence.sweep import (
    SWEPT,
    Column,
    Setting,
    Sweep,
    columns_of,
    described,
    setting_of,
)
from lth_runner.runs.evidence.verdict import Level
from lth_runner.runs.folder import Row

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
class Lead:
    """The best pruner at a sparsity with its ticket, the next one, and by how much it is better.

    `word`: whether it is better, with all that it was chosen among counted in (Bonferroni).
    """

    best: Setting
    level: Level
    next: Setting
    difference: Estimate
    word: Word


@dataclass(frozen=True)
class Comparison:
    """Pruners side by side; the sweep's settings are the pruners."""

    sweep: Sweep
    efforts: tuple[Effort, ...]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The measured sparsities to show."""
        return tuple(column for column in self.sweep.shown if column.level is not None)

    def checks(self, one: Setting) -> tuple[Check, ...]:
        """The sanity checks of a pruner at the sparsities shown."""
        shown = {column.level for column in self.columns}
        found = checks(one.run, one.verdict, pruner=one.label)
        return tuple(check for check in found if check.level.round in shown)

    def lead(self, column: Column) -> Lead | None:
        """Finds the best pruner at a sparsity; None where fewer than two have a ticket there.

        And where the best two are to be compared by pairs (`report.paired`) and share no seed.
        """
        found = [(one, one.at(column)) for one in self.sweep.settings]
        levels = [(one, level) for one, level in found if level and level.mean is not None]
        if len(levels) < 2:
            return None
        levels.sort(key=lambda pair: self.sweep.measure.gain(0.0, pair[1].mean or 0.0))
        (best, top), (other, second) = levels[:2]
        ours, theirs = Differences(best.run), Differences(other.run)
        difference = ours.beside((TICKET, top.round), theirs, (TICKET, second.round))
        if difference is None:
            return None
        held = {best.label: Held(top, second, difference)}
        decided = words(held, 0.0, DIFFERENCE_LEVEL / (len(levels) - 1), as_good=False)
        return Lead(best, top, other, difference, decided.get(best.label, "undecided"))


def find_pruners(runs: Sequence[FinishedRun]) -> tuple[Comparison, ...]:
    """Groups the runs that are the same but for pruner, its sparsity and seed, with several."""
    groups: dict[str, dict[str, list[FinishedRun]]] = {}
    for run in runs:
        rest = described(
            run, lambda key: not key.startswith("pruner.") and not SEEDS.fullmatch(key)
        )
        own = described(run, lambda key: key.startswith("pruner.") and not SWEPT.fullmatch(key))
        groups.setdefault(rest, {}).setdefault(own, []).append(run)
    return tuple(_comparison(list(found.values())) for found in groups.values() if len(found) > 1)


def _comparison(groups: Sequence[Sequence[FinishedRun]]) -> Comparison:
    runs = tuple(run for group in groups for run in group)
    asked = {s for run in runs if (s := asked_sparsity(run)) is not None}
    groups = [[_snapped(run, asked) for run in group] for group in groups]
    merged = merged_run(runs)
    levels = levels_of(
        kept
        for group in groups
        for run in group
        for row in run.rows
        if not is_dense(row) and (kept := density(row)) is not None
    )
    named = list(zip(groups, _labels(groups), strict=True))
    settings = sorted(
        (setting_of(merged, levels, group, name) for group, name in named), key=_quality
    )
    columns = columns_of(range(len(levels)), levels, runs)
    sweep = Sweep(runs, tuple(settings), columns, judge(merged), by="pruner")
    order = [one.label for one in settings]
    efforts = [effort for group, name in named for effort in _efforts(group, name)]
    efforts.sort(key=lambda effort: (order.index(effort.label), effort.sparsity))
    return Comparison(sweep, tuple(efforts))


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
    last = one.verdict.last()
    if last is None or last.mean is None:
        return (0.0, 0.0, one.label)
    return (-round(last.sparsity, 2), one.verdict.measure.gain(0.0, last.mean), one.label)


# --- what it took to find the masks


def _efforts(group: Sequence[FinishedRun], label: str) -> list[Effort]:
    """Counts what the last tickets of a pruner's runs took, those of one sparsity together."""
    found: dict[float, list[Effort]] = {}
    for run in group:
        rounds = run.rounds(TICKET)
        last = run.at(TICKET, rounds[-1]) if rounds else ()
        own = [_effort(run, row, label) for row in last if not is_dense(row) and density(row)]
        if own:
            found.setdefault(round(mean(one.sparsity for one in own), 6), []).extend(own)
    return [_averaged(efforts) for efforts in found.values()]


def _averaged(efforts: Sequence[Effort]) -> Effort:
    """Averages the efforts for tickets of one pruner and sparsity."""
    searches = [one.search for one in efforts if one.search is not None]
    return replace(
        efforts[0],
        sparsity=mean(one.sparsity for one in efforts),
        n=len(efforts),
        trainings=mean(one.trainings for one in efforts),
        steps=mean(one.steps for one in efforts),
        seconds=mean(one.seconds for one in efforts),
        search=mean(searches) if len(searches) == len(efforts) else None,
        own_steps=mean(one.own_steps for one in efforts),
        own_seconds=mean(one.own_seconds for one in efforts),
    )


def _effort(run: FinishedRun, ticket: Row, label: str) -> Effort:
    """Counts all earlier trainings of the ticket's seed, or what of them the mask was made from.

    A pruner that decides at the start (`pruner.dense` is a key of these alone) or by chance needs
    the first training up to the rewind step (all of it where another step is scored); early-bird
    up to the epoch that the ticket goes on from; any other, all of them.
    """
    earlier = [
        row
        for row in run.rows
        if (row["arm"], row["seed"]) == (TICKET, ticket["seed"]) and row["round"] < ticket["round"]
    ]
    steps, seconds = (
        [number(row.get(name)) or 0.0 for row in (*earlier, ticket)]
        for name in ("steps", "seconds")
    )
    times = [number(row.get("search_seconds")) for row in (*earlier, ticket)]
    known = [time for time in times if time is not None]
    source, trainings, part = "trained weights", float(len(earlier)), _part_needed(run, ticket)
    taken = [sum(steps[:-1]), sum(seconds[:-1])]
    if not earlier:
        static = class_name(run.option("pruner", "masking")) == "Static"
        source = "the start" if static else "its own training"
    elif part is not None:
        trainings = min(part / steps[0], 1.0) if steps[0] else 0.0
        source, taken = f"step {part}" if part else "the start", [steps[0], seconds[0]]
        taken = [trainings * one for one in taken]
    return Effort(
        label=label,
        sparsity=1 - (density(ticket) or 0.0),
        source=source,
        n=1,
        trainings=trainings,
        steps=taken[0],
        seconds=taken[1],
        search=sum(known) if len(known) == len(times) else None,
        own_steps=steps[-1],
        own_seconds=seconds[-1],
    )


def _part_needed(run: FinishedRun, ticket: Row) -> int | None:
    """Finds the step of the first training that the mask was made at; None: whole trainings."""
    if class_name(run.option("pruner", "search")) == "EarlyBird":
        return int(ticket.get("start_step") or 0)
    by_chance = class_name(run.option("pruner", "search", "score")) == "Random"
    if by_chance or "dense" in (run.option("pruner") or ()):
        return None if run.option("pruner", "score_step") else rewind_step(run) or 0
    return None
