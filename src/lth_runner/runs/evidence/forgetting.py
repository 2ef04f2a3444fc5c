"""What runs that go on from earlier ones have kept of the first task, and reached on the second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from statistics import fmean, stdev

from lth_runner.runs.evidence.differences import gain
from lth_runner.runs.evidence.estimate import (
    DIFFERENCE_LEVEL,
    Estimate,
    Word,
    decide,
    decide_all,
    paired,
    sample,
    two_sample,
)
from lth_runner.runs.evidence.means import is_dense, number
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.settings import flatten
from lth_runner.runs.folder import Row
from lth_runner.values.measure import Measure

BEFORE, RETAINED = "retained_before", "retained_"
ALIKE = ("model", "train", "covers", "objective")  # what ways are compared under
# of a task, and of the way itself: each of them wants its own
OWN = ("model.num_classes", "model.vocabulary", "model.length", "train.optimizer.lr")
# the dense training, by how weights are trained
FULL: Mapping[str, str] = {"LowRank": "LoRA"}
# by how weights are trained: what the ticket, and the ticket outside another's, are called
TICKETS: Mapping[str, tuple[str, str]] = {"Delta": ("LoTA", "LoTTO")}
Settings = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Way:
    """How the first task was trained and how the second: ``LoTA``, ``LoTTO``."""

    first: str
    second: str

    @property
    def told(self) -> str:
        """Names it as a sentence does."""
        return f"{self.first}, then {self.second}"


@dataclass(frozen=True)
class Kept:
    """One way's figures by seed: the first task before and after, and the second one."""

    way: Way
    before: Mapping[int, float]
    retained: Mapping[int, float]
    reached: Mapping[int, float]

    @property
    def num_seeds(self) -> int:
        """How many seeds it has."""
        return len(self.retained)


@dataclass(frozen=True)
class Forgetting:
    """The ways to train a second task after a first, side by side."""

    first: str
    second: str
    of_first: Measure
    of_second: Measure
    kept: tuple[Kept, ...]
    runs: tuple[FinishedRun, ...]

    @property
    def by_kept(self) -> tuple[Kept, ...]:
        """The ways by what they kept of the first task on average, most first."""
        return tuple(sorted(self.kept, key=lambda x: self.of_first.gain(0.0, mean(x.retained))))

    def lost(self, one: Kept) -> Estimate:
        """Estimates what a way forgot: a network before the second task less itself after it."""
        found = paired(one.before, one.retained)
        assert found is not None  # a seed has all three values or is left out
        return gain(self.of_first, found)

    @property
    def forgotten(self) -> Mapping[Way, Word]:
        """Says of each way whether it forgets at all, all ways counted in (Holm)."""
        return decide_all({one.way: self.lost(one) for one in self.kept}, 0.0, DIFFERENCE_LEVEL)

    @property
    def lead(self) -> tuple[Kept, Estimate, Word] | None:
        """The way that kept second most, and by how much the first kept more.

        Whether it did is decided with all that it was chosen among counted in (Bonferroni).
        """
        if len(self.kept) < 2:
            return None
        best, second = self.by_kept[:2]
        values = (list(one.retained.values()) for one in (best, second))
        found = gain(self.of_first, two_sample(*map(sample, values)))
        return second, found, decide(found, 0.0, DIFFERENCE_LEVEL / (len(self.kept) - 1))


def mean(values: Mapping[int, float]) -> float:
    """Averages over the seeds."""
    return fmean(values.values())


def spread(values: Mapping[int, float]) -> float | None:
    """Computes the standard deviation over the seeds; None of one."""
    return stdev(values.values()) if len(values) > 1 else None


@dataclass
class _Gathered:
    """What is read off the rows before it is laid out."""

    runs: list[FinishedRun] = field(default_factory=list)
    ways: dict[Way, dict[int, tuple[float, float, float]]] = field(default_factory=dict)
    measures: tuple[Measure, Measure] | None = None


def find_forgetting(runs: Sequence[FinishedRun]) -> tuple[Forgetting, ...]:
    """Finds second tasks after first ones, those of other networks and recipes apart."""
    found: dict[tuple[str, str, Settings], _Gathered] = {}
    for run in runs:
        measured = [row for row in run.rows if BEFORE in row and _is_trained(row)]
        origin = _origin(run, runs)
        if not measured or origin is None:
            continue
        key = (task_of(origin), task_of(run), (*recipe(run), ("sparsity", str(_sparsity(run)))))
        gathered = found.setdefault(key, _Gathered())
        gathered.runs += [one for one in (origin, run) if one not in gathered.runs]
        gathered.measures = origin.measure, run.measure
        for row in measured:
            _add(gathered, run, origin, row)
    return tuple(
        Forgetting(first, second, *one.measures, _laid_out(one), tuple(one.runs))
        for (first, second, _), one in found.items()
        if one.measures and one.ways
    )


def _add(gathered: _Gathered, run: FinishedRun, origin: FinishedRun, row: Row) -> None:
    values = (
        number(row[BEFORE]),
        number(row.get(f"{RETAINED}{origin.measure.name}")),
        number(row.get(f"test_{run.measure.name}")),
    )
    before, retained, reached = values
    if before is None or retained is None or reached is None:
        return
    way = Way(_first_way(run, origin), way_of(run, row))
    gathered.ways.setdefault(way, {}).setdefault(row["seed"], (before, retained, reached))


def _laid_out(gathered: _Gathered) -> tuple[Kept, ...]:
    """Lists the ways, those of one kind first, as full after full."""
    ordered = sorted(
        gathered.ways, key=lambda way: (way.first != way.second, way.first != "full", way.told)
    )
    columns = [[{s: v[i] for s, v in gathered.ways[way].items()} for i in range(3)]
               for way in ordered]  # fmt: skip
    return tuple(Kept(way, *column) for way, column in zip(ordered, columns, strict=True))


def _first_way(run: FinishedRun, origin: FinishedRun) -> str:
    """Names how the training was done that a run started from."""
    wanted = run.option("origin", "round") or 0, str(run.option("origin", "arm") or TICKET)
    for row in origin.rows:
        if (row["round"], row["arm"]) == wanted:
            return way_of(origin, row)
    return wanted[1]


def way_of(run: FinishedRun, row: Row) -> str:
    """Names how a training was done: in full, by LoTA, by LoTTO, by an arm beside the ticket."""
    kind = str(run.option("coordinates", "_target_") or "").rpartition(".")[2]
    if row["arm"] != TICKET:
        return str(row["arm"])
    if is_dense(row):
        return FULL.get(kind, "full")
    ticket, outside = TICKETS.get(kind, (TICKET, f"{TICKET} outside"))
    return outside if run.option("pruner", "outside") else ticket


def _is_trained(row: Row) -> bool:
    return bool(row.get("steps", 1)) and not row.get("diverged")


def _origin(run: FinishedRun, runs: Sequence[FinishedRun]) -> FinishedRun | None:
    """Finds the run that a run started from among those that are looked at."""
    place = PurePath(str(run.option("origin", "run") or ""))
    named = [one for one in runs if one.folder.name == place.name]
    below = [one for one in runs if one.folder.parent.name == place.name and one is not run]
    found = named or below
    return found[0] if len(found) == 1 else None


def task_of(run: FinishedRun) -> str:
    """Names what a run has learned: by its data."""
    return str(run.option("dataset", "name") or run.name)


def recipe(run: FinishedRun) -> Settings:
    """Lists what tells one recipe from another, without what each task and way wants its own of."""
    found = flatten({key: run.config.get(key) for key in ALIKE})
    return tuple(
        (key, str(value)) for key, value in sorted(found.items()) if not key.startswith(OWN)
    )


def _sparsity(run: FinishedRun) -> float:
    known = [number(row.get("sparsity")) or 0.0 for row in run.rows]
    return round(max(known, default=0.0), 3)  # adapters are fewer, and round otherwise
