"""The rows of a run folder, finished or not, and their means over the replicates."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lth_runner.runs.folder import (
    CONFIG,
    ENVIRONMENT,
    METRICS,
    PROBLEM,
    ROUNDS,
    STATUS,
    checked_mapping,
    checked_rows,
)
from lth_runner.runs.measure import listed
from lth_runner.runs.report.tolerance import Tolerance
from lth_runner.values.errors import UserError
from lth_runner.values.measure import ACCURACY, Measure

Row = Mapping[str, Any]

TICKET = "ticket"
FIRST_ROUND = 0  # the dense network's, unless its mask keeps less than all: see `is_dense`
IDENTITY = ("round", "arm", "seed")


@dataclass(frozen=True)
class Summary:
    """One (arm, round) over its replicates; `count[field]` replicates had that field."""

    n: int
    sparsity: float | None
    count: Mapping[str, int]
    mean: Mapping[str, float]
    std: Mapping[str, float | None]


@dataclass(frozen=True)
class FinishedRun:
    """One run folder; a row that was written twice (a resumed round) counts once, the later one."""

    folder: Path
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    environment: Mapping[str, Any]
    rows: tuple[Row, ...]
    problem: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> FinishedRun:
        """Reads `rounds.jsonl` and what lies beside it.

        Raises `UserError` when rounds.jsonl is missing or a file cannot be read.
        """
        folder = Path(path)
        file = folder / ROUNDS
        if not file.is_file():
            raise UserError(
                f"{folder} is not a run folder: it has no {ROUNDS}. "
                "Give the folder that lth-run printed, or any folder above it."
            )
        latest = {identity(row, file, line): row for line, row in checked_rows(file)}
        arms = list(dict.fromkeys([TICKET, *(arm for _, arm, _ in latest)]))
        order = sorted(latest, key=lambda key: (key[0], arms.index(key[1]), key[2]))
        return cls(
            folder=folder,
            config=checked_mapping(folder / CONFIG),
            status=checked_mapping(folder / STATUS),
            environment=checked_mapping(folder / ENVIRONMENT),
            rows=tuple(latest[key] for key in order),
            problem=checked_mapping(folder / PROBLEM),
        )

    @property
    def name(self) -> str:
        """The run's name in its config, else its folder's."""
        return str(self.config.get("name") or self.folder.resolve().name)

    @property
    def choices(self) -> Mapping[str, Any]:
        """Config group -> the option chosen; empty where the run did not record it."""
        found = self.environment.get("choices")
        return found if isinstance(found, Mapping) else {}

    @property
    def pruner(self) -> str:
        """The pruner's name: the option chosen, else the class that decides."""
        if chosen := self.choices.get("pruner"):
            return str(chosen)
        classes = (class_name(self.option("pruner", *path)) for path in (("search", "score"),
                                                                         ("masking",)))  # fmt: skip
        return next((name for name in classes if name not in ("", "Static")), "the pruner")

    @property
    def state(self) -> str:
        """The state that the run's status says, else ``unknown``."""
        return str(self.status.get("state") or "unknown")

    def option(self, *path: str) -> Any:
        """Reads what the config says at a path of keys; None where it has none."""
        node: Any = self.config
        for key in path:
            node = node.get(key) if isinstance(node, Mapping) else None
        return node

    @cached_property
    def measure(self) -> Measure:
        """The headline measure; accuracy in a folder of before there were others."""
        found = next(iter(listed(self.problem)), ACCURACY)
        classes = number(self.option("dataset", "num_classes"))
        if found.chance is None and found.name == ACCURACY.name and classes and classes >= 1:
            return replace(found, chance=1 / classes)
        return found

    @property
    def outcome(self) -> str:
        """The field of the rows that verdicts are about, such as test_accuracy."""
        return f"test_{self.measure.name}"

    @property
    def tolerance(self) -> Tolerance:
        """What a matching ticket may lose; config key `report.tolerance`."""
        return Tolerance.parse(
            self.option("report", "tolerance"), self.measure, str(self.folder / CONFIG)
        )

    @property
    def controls(self) -> tuple[str, ...]:
        """The arms beside the ticket, in the order of the rows."""
        return tuple(dict.fromkeys(row["arm"] for row in self.rows if row["arm"] != TICKET))

    @property
    def arms(self) -> tuple[str, ...]:
        """The ticket and the controls."""
        return (TICKET, *self.controls)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the replicates."""
        return tuple(sorted({row["seed"] for row in self.rows}))

    @property
    def dense_round(self) -> int | None:
        """The round of the dense network; None where the first training is sparse already."""
        sparse = any(row["round"] == FIRST_ROUND and not is_dense(row) for row in self.rows)
        return None if sparse else FIRST_ROUND

    @property
    def covered(self) -> float | None:
        """Share of all parameters that a mask covers; None where nothing tells it."""
        for found in (*self.rows, self.problem):
            total, ours = number(found.get("num_parameters")), number(found.get("num_prunable"))
            if total and ours is not None:
                return ours / total
        return None

    def rounds(self, arm: str) -> tuple[int, ...]:
        """Lists the rounds that an arm has rows of."""
        return tuple(sorted({row["round"] for row in self.rows if row["arm"] == arm}))

    def at(self, arm: str, round: int) -> tuple[Row, ...]:
        """Lists the rows of an arm in a round, one for each replicate."""
        return tuple(row for row in self.rows if row["arm"] == arm and row["round"] == round)

    def values(self, arm: str, round: int, field: str) -> dict[int, float]:
        """Maps seed to value, over the replicates that have one."""
        pairs = ((row["seed"], number(row.get(field))) for row in self.at(arm, round))
        return {seed: value for seed, value in pairs if value is not None}

    def density(self, arm: str, round: int) -> float | None:
        """Averages the density of an arm in a round; None where no row has one."""
        found = [value for row in self.at(arm, round) if (value := density(row)) is not None]
        return mean(found) if found else None

    def metrics(self) -> tuple[Row, ...]:
        """Reads the rows of metrics.jsonl; none when the run recorded none."""
        file = self.folder / METRICS
        return tuple(row for _, row in checked_rows(file)) if file.is_file() else ()


def class_name(node: object) -> str:
    """Finds the class that a part of the config names, without its module; empty for none."""
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return str(target or "").rsplit(".", 1)[-1]


def number(value: object) -> float | None:
    """Reads the finite number that `value` is, else None; a truth value is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def density(row: Row) -> float | None:
    """Reads the fraction of the prunable weights kept, by either of its two names."""
    kept, removed = number(row.get("density")), number(row.get("sparsity"))
    return kept if kept is not None else None if removed is None else 1.0 - removed


def is_dense(row: Row) -> bool:
    """Returns whether a row is the dense network's: of the first round, its mask keeps all."""
    kept = density(row)
    return row["round"] == FIRST_ROUND and (kept is None or kept >= 1.0)


def mean(values: Iterable[float]) -> float:
    """Averages numbers, of which there is at least one."""
    found = tuple(values)
    return math.fsum(found) / len(found)


def std(values: Iterable[float]) -> float | None:
    """Computes the sample standard deviation (ddof = 1); None for fewer than two values."""
    found = tuple(values)
    if len(found) < 2:
        return None
    centre = mean(found)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in found) / (len(found) - 1))


def aggregate(rows: Iterable[Row]) -> dict[tuple[str, int], Summary]:
    """Averages every numeric field over the replicates: (arm, round) -> mean and deviation."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["arm"], row["round"]), []).append(row)
    return {key: _summary(group) for key, group in groups.items()}


def _summary(rows: list[Row]) -> Summary:
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, raw in row.items():
            if name not in IDENTITY and (value := number(raw)) is not None:
                found.setdefault(name, []).append(value)
    kept = [value for value in map(density, rows) if value is not None]
    return Summary(
        n=len(rows),
        sparsity=1.0 - mean(kept) if kept else None,
        count={name: len(values) for name, values in found.items()},
        mean={name: mean(values) for name, values in found.items()},
        std={name: std(values) for name, values in found.items()},
    )


def object_means(rows: Iterable[Row], field: str) -> dict[str, tuple[float, float]]:
    """Averages a field that is an object over the rows: name -> mean and deviation."""
    found: dict[str, list[float]] = {}
    for row in rows:
        values = row.get(field)
        for name, raw in values.items() if isinstance(values, Mapping) else ():
            if (value := number(raw)) is not None:
                found.setdefault(str(name), []).append(value)
    return {name: (mean(values), std(values) or 0.0) for name, values in found.items()}


def identity(row: Row, file: Path, line: int) -> tuple[int, str, int]:
    """Reads (round, arm, seed) of a row; raises `UserError` where one is missing."""
    round, arm, seed = (row.get(key) for key in IDENTITY)
    if not (isinstance(round, int) and isinstance(arm, str) and isinstance(seed, int)):
        raise UserError(
            f"{file}, line {line}: a row needs round (integer), arm (text) and seed (integer); "
            f"found round={round!r}, arm={arm!r}, seed={seed!r}."
        )
    return round, arm, seed


def find_runs(paths: Iterable[str | Path]) -> tuple[Path, ...]:
    """Finds the run folders at or below each path, each once; raises `UserError` for none."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            kind = "is a file" if path.exists() else "does not exist"
            raise UserError(f"{path} {kind}: give a run folder, or a folder that holds some.")
        below = sorted(file.parent for file in path.rglob(ROUNDS))
        if not below:
            raise UserError(
                f"No run found: neither {path} nor a folder below it holds a {ROUNDS}. "
                "A run writes it when its first training ends."
            )
        for folder in below:
            found.setdefault(folder.resolve(), folder)
    return tuple(found.values())
