"""What merged networks reach on each task, beside what the task's own training reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from lth_runner.runs.evidence.differences import gain
from lth_runner.runs.evidence.estimate import (
    DIFFERENCE_LEVEL,
    Estimate,
    Word,
    decide_all,
    paired,
)
from lth_runner.runs.evidence.forgetting import recipe, task_of, way_of
from lth_runner.runs.evidence.means import number
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.folder import Row
from lth_runner.values.measure import Measure

# method -> what it is called, and what its options are told as
METHODS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "task_arithmetic": ("task arithmetic", {}),
    "sum": ("sum", {}),
    "ties": ("TIES", {"density": "keeping {:.3g} %"}),
    "dare": ("DARE", {"drop": "dropping {:.3g} %"}),
}
CHOSEN = "validation"  # what the weight was chosen by


@dataclass(frozen=True)
class Part:
    """One of the tasks whose changes are merged, and how it was trained: ``LoTA``.

    Of several trainings on one task each has its number: ``digits 2``.
    """

    task: str
    way: str
    density: float
    measure: Measure


@dataclass(frozen=True)
class Merged:
    """One way to merge: the weight by seed, and each task's figures by seed."""

    told: str
    weights: Mapping[int, float]
    values: tuple[Mapping[int, float], ...]

    @property
    def num_seeds(self) -> int:
        """How many seeds it has."""
        return len(self.weights)


@dataclass(frozen=True)
class Meeting:
    """Where the changes of two tasks meet, by seed; counts of weights.

    ``conflicts``: the share of the common places where the signs differ, of seeds that have any.
    """

    first: str
    second: str
    num: Mapping[int, float]
    both: Mapping[int, float]
    by_chance: Mapping[int, float]
    conflicts: Mapping[int, float]

    @property
    def times_chance(self) -> Mapping[int, float]:
        """How many times as many places meet as chance has it."""
        return {seed: both / self.by_chance[seed] for seed, both in self.both.items()
                if self.by_chance[seed]}  # fmt: skip


@dataclass(frozen=True)
class Merges:
    """The ways to merge the same tasks' changes, side by side."""

    parts: tuple[Part, ...]
    alone: tuple[Mapping[int, float], ...]
    merged: tuple[Merged, ...]
    meetings: tuple[Meeting, ...]
    runs: tuple[FinishedRun, ...]

    def lost(self, one: Merged, place: int) -> Estimate:
        """Estimates what a task loses: its own training less the merged network, by seed."""
        found = paired(self.alone[place], one.values[place])
        assert found is not None  # a seed has all values or is left out
        return gain(self.parts[place].measure, found)

    @property
    def by_loss(self) -> tuple[Merged, ...]:
        """The ways by what they lose on average over the tasks, least first."""
        return tuple(sorted(self.merged, key=self.mean_loss))

    def mean_loss(self, one: Merged) -> float:
        """Averages a way's losses over the tasks."""
        return fmean(self.lost(one, place).difference for place in range(len(self.parts)))

    @property
    def words(self) -> Mapping[tuple[str, int], Word]:
        """Says of each way and place of a task whether anything is lost, all counted in (Holm)."""
        losses = {
            (one.told, place): self.lost(one, place)
            for one in self.merged
            for place in range(len(self.parts))
        }
        return decide_all(losses, 0.0, DIFFERENCE_LEVEL)


@dataclass
class _Gathered:
    """What is read off the lines before it is laid out, by the first source's seed."""

    runs: list[FinishedRun] = field(default_factory=list)
    alone: dict[int, tuple[float, ...]] = field(default_factory=dict)
    values: dict[str, dict[int, tuple[float, tuple[float, ...]]]] = field(default_factory=dict)
    meetings: dict[int, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def find_merges(runs: Sequence[FinishedRun]) -> tuple[Merges, ...]:
    """Finds what was merged of runs, those of other tasks, ways and recipes apart.

    A merge counts where all its runs are among these and hold the trainings that it was made of;
    of a merge that was made twice the later one counts.
    """
    there = {(run.name, run.folder.name): run for run in runs}
    found: dict[tuple[object, ...], tuple[tuple[Part, ...], _Gathered]] = {}
    for run in runs:
        for line in run.merges:
            sources = [(one, _training(there, one)) for one in line.get("sources") or ()]
            trained = [training for _, training in sources if training is not None]
            if len(sources) < 2 or len(trained) < len(sources):
                continue
            parts = tuple(_part(*one) for one in trained)
            seeds = [row["seed"] for _, row in trained]
            key = (*parts, recipe(trained[0][0]), *(seed - seeds[0] for seed in seeds))
            _, gathered = found.setdefault(key, (parts, _Gathered()))
            _add(gathered, line, seeds[0], [one for one, _ in trained])
    return tuple(_laid_out(*one) for one in found.values() if one[1].values)


def _training(
    there: Mapping[tuple[str, str], FinishedRun], source: Mapping[str, Any]
) -> tuple[FinishedRun, Row] | None:
    """Finds a source's run and its row there; None where it is another training by now."""
    run = there.get((str(source.get("name")), str(source.get("run"))))
    for row in () if run is None else run.rows:
        if all(row.get(key) == source.get(key) for key in ("round", "arm", "seed", "training_key")):
            return run, row  # type: ignore[return-value]
    return None


def _part(run: FinishedRun, row: Row) -> Part:
    density = round(number(row.get("density")) or 1.0, 3)
    return Part(task_of(run), way_of(run, row), density, run.measure)


def _add(
    gathered: _Gathered, line: Mapping[str, Any], seed: int, runs: Sequence[FinishedRun]
) -> None:
    alone, values = ([number(one.get(of)) for one in line["sources"]] for of in ("alone", "value"))
    weight = number(line.get("weight"))
    own = tuple(value for value in alone if value is not None)
    reached = tuple(value for value in values if value is not None)
    if weight is None or len(own) < len(alone) or len(reached) < len(values):
        return
    gathered.runs += [one for one in runs if one not in gathered.runs]
    gathered.alone[seed] = own
    gathered.values.setdefault(_told(line), {})[seed] = weight, reached
    gathered.meetings[seed] = line.get("interference") or ()


def _told(line: Mapping[str, Any]) -> str:
    """Names a way to merge: ``TIES keeping 20 %, w by validation``."""
    method = str(line.get("method"))
    name, options = METHODS.get(method, (method, {}))
    given = line.get("options") or {}
    words = [text.format(100 * value) for key, text in options.items()
             if (value := number(given.get(key))) is not None]  # fmt: skip
    words += [f"draw {given['seed']}"] if given.get("seed") else []
    if line.get("weight_by") == CHOSEN:
        weight = "w by validation"
    else:
        weight = f"w = {number(line.get('weight')):g}"
    return ", ".join([" ".join([name, *words]), weight])


def _laid_out(alike: Sequence[Part], gathered: _Gathered) -> Merges:
    parts, places = _numbered(alike), range(len(alike))
    merged = tuple(
        Merged(told, {seed: weight for seed, (weight, _) in by_seed.items()},
               tuple({seed: values[i] for seed, (_, values) in by_seed.items()} for i in places))
        for told, by_seed in gathered.values.items()
    )  # fmt: skip
    alone = tuple({seed: own[i] for seed, own in gathered.alone.items()} for i in places)
    return Merges(parts, alone, merged, _meetings(parts, gathered), tuple(gathered.runs))


def _numbered(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Numbers the trainings on one task, so that each has a name of its own."""
    tasks = [part.task for part in parts]
    return tuple(
        replace(part, task=f"{part.task} {tasks[: place + 1].count(part.task)}")
        if tasks.count(part.task) > 1 else part
        for place, part in enumerate(parts)
    )  # fmt: skip


def _meetings(parts: Sequence[Part], gathered: _Gathered) -> tuple[Meeting, ...]:
    by_pair: dict[tuple[int, int], dict[int, Mapping[str, Any]]] = {}
    for seed, meetings in gathered.meetings.items():
        for one in meetings:
            first, second = one["of"]
            by_pair.setdefault((first, second), {})[seed] = one
    found = []
    for (first, second), counts in by_pair.items():
        num, both, by_chance, conflicts = (
            {seed: float(one[key]) for seed, one in counts.items()}
            for key in ("num", "both", "by_chance", "conflicts")
        )
        shares = {seed: conflicts[seed] / both[seed] for seed in both if both[seed]}
        found.append(Meeting(parts[first].task, parts[second].task, num, both, by_chance, shares))
    return tuple(found)
