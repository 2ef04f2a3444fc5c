"""What a finished or unfinished run folder holds, read as it is; and its means over replicates."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lth_runner.values.errors import UserError

Row = Mapping[str, Any]

TICKET = "ticket"
FIRST_ROUND = 0  # the dense network's, unless its mask keeps less than all: see `is_dense`
ACCURACY = "test_accuracy"
DEFAULT_TOLERANCE = 0.005
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
class Run:
    """One run folder; a row that was written twice (a resumed round) counts once, the later one."""

    folder: Path
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    environment: Mapping[str, Any]
    rows: tuple[Row, ...]

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Reads `rounds.jsonl` and, where they are, config, status and environment.

        Raises `UserError` when rounds.jsonl is missing or a file cannot be read.
        """
        folder = Path(path)
        file = folder / "rounds.jsonl"
        if not file.is_file():
            raise UserError(
                f"{folder} is not a run folder: it has no rounds.jsonl. "
                "Give the folder that lth-run printed, or any folder above it."
            )
        latest = {identity(row, file, line): row for line, row in read_jsonl(file)}
        arms = list(dict.fromkeys([TICKET, *(arm for _, arm, _ in latest)]))
        config = _read_mapping(folder / "config.yaml")
        order = sorted(latest, key=lambda key: (key[0], arms.index(key[1]), key[2]))
        return cls(
            folder=folder,
            config=config,
            status=_read_mapping(folder / "status.json"),
            environment=_read_mapping(folder / "environment.json"),
            rows=tuple(latest[key] for key in order),
        )

    @property
    def name(self) -> str:
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
        node = self.config.get("pruner")
        targets = [_target(node, *path) for path in (("search", "score"), ("masking",))]
        return next((name for name in targets if name not in ("", "Static")), "the pruner")

    @property
    def state(self) -> str:
        return str(self.status.get("state") or "unknown")

    @property
    def tolerance(self) -> float:
        """Accuracy (0..1) that a matching ticket may lose; config key `report.tolerance`."""
        section = self.config.get("report")
        value = section.get("tolerance") if isinstance(section, Mapping) else None
        if value is None:
            return DEFAULT_TOLERANCE
        if number(value) is None or not 0 <= value < 1:
            raise UserError(
                f"report.tolerance={value!r} in {self.folder / 'config.yaml'}: give an accuracy "
                "difference from 0 to below 1, such as 0.005 for half a point."
            )
        return float(value)

    @property
    def controls(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row["arm"] for row in self.rows if row["arm"] != TICKET))

    @property
    def arms(self) -> tuple[str, ...]:
        return (TICKET, *self.controls)

    @property
    def num_replicates(self) -> int:
        return len({row["seed"] for row in self.rows})

    @property
    def dense_round(self) -> int | None:
        """The round of the dense network; None where the first training is sparse already."""
        sparse = any(row["round"] == FIRST_ROUND and not is_dense(row) for row in self.rows)
        return None if sparse else FIRST_ROUND

    def rounds(self, arm: str) -> tuple[int, ...]:
        return tuple(sorted({row["round"] for row in self.rows if row["arm"] == arm}))

    def at(self, arm: str, round: int) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row["arm"] == arm and row["round"] == round)

    def values(self, arm: str, round: int, field: str) -> dict[int, float]:
        """Seed -> value, over the replicates that have one."""
        pairs = ((row["seed"], number(row.get(field))) for row in self.at(arm, round))
        return {seed: value for seed, value in pairs if value is not None}

    def metrics(self) -> tuple[Row, ...]:
        """The rows of metrics.jsonl; none when the run recorded none."""
        file = self.folder / "metrics.jsonl"
        return tuple(row for _, row in read_jsonl(file)) if file.is_file() else ()


def _target(node: object, *path: str) -> str:
    """The class that a part of the config names, without its module; empty where there is none."""
    for key in (*path, "_target_"):
        node = node.get(key) if isinstance(node, Mapping) else None
    return str(node or "").rsplit(".", 1)[-1]


def number(value: object) -> float | None:
    """The finite number that `value` is, else None; a truth value is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def density(row: Row) -> float | None:
    """Fraction of the prunable weights kept, from whichever of its two names the row has."""
    kept, removed = number(row.get("density")), number(row.get("sparsity"))
    return kept if kept is not None else None if removed is None else 1.0 - removed


def is_dense(row: Row) -> bool:
    """Whether a row is the dense network's: of the first round, and its mask keeps all."""
    kept = density(row)
    return row["round"] == FIRST_ROUND and (kept is None or kept >= 1.0)


def mean(values: Iterable[float]) -> float:
    found = tuple(values)
    return math.fsum(found) / len(found)


def std(values: Iterable[float]) -> float | None:
    """Sample standard deviation (ddof = 1); None for fewer than two values."""
    found = tuple(values)
    if len(found) < 2:
        return None
    centre = mean(found)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in found) / (len(found) - 1))


def aggregate(rows: Iterable[Row]) -> dict[tuple[str, int], Summary]:
    """(arm, round) -> mean and standard deviation of every numeric field over the replicates."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["arm"], row["round"]), []).append(row)
    return {key: _summary(group) for key, group in groups.items()}


def _summary(rows: list[Row]) -> Summary:
    found: dict[str, list[float]] = {}
    for row in rows:
        for field, raw in row.items():
            value = number(raw)
            if value is not None and field not in IDENTITY:
                found.setdefault(field, []).append(value)
    kept = [value for value in map(density, rows) if value is not None]
    return Summary(
        n=len(rows),
        sparsity=1.0 - mean(kept) if kept else None,
        count={field: len(values) for field, values in found.items()},
        mean={field: mean(values) for field, values in found.items()},
        std={field: std(values) for field, values in found.items()},
    )


def identity(row: Row, file: Path, line: int) -> tuple[int, str, int]:
    """(round, arm, seed) of a row; raises `UserError` where one is missing."""
    round, arm, seed = (row.get(key) for key in IDENTITY)
    if not (isinstance(round, int) and isinstance(arm, str) and isinstance(seed, int)):
        raise UserError(
            f"{file}, line {line}: a row needs round (integer), arm (text) and seed (integer); "
            f"found round={round!r}, arm={arm!r}, seed={seed!r}."
        )
    return round, arm, seed


def read_jsonl(file: Path) -> Iterator[tuple[int, Row]]:
    """(line number, object) per line; a torn last line is left out, a torn one elsewhere raises."""
    lines = [(i, line) for i, line in enumerate(_bytes(file).split(b"\n"), 1) if line.strip()]
    decode = json.JSONDecoder(parse_constant=lambda _: None).decode  # json.loads makes one a line
    for position, (line_number, line) in enumerate(lines, 1):
        try:
            row = decode(line.decode())
        except ValueError as error:
            if position == len(lines):  # the writer was killed in the middle of it
                return
            raise UserError(
                f"{file}, line {line_number} is not JSON ({error}). Only the last line may be "
                "torn: remove this line, or run the experiment again to rewrite the file."
            ) from error
        if not isinstance(row, dict):
            raise UserError(f"{file}, line {line_number} holds {row!r}, not a JSON object.")
        yield line_number, row


def _read_mapping(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        return {}
    try:
        text = _bytes(file).decode()
        found = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{file} cannot be read: {reason}.") from error
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise UserError(f"{file} holds a {type(found).__name__}, not a mapping of keys to values.")
    return found


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error


def find_runs(paths: Iterable[str | Path]) -> tuple[Path, ...]:
    """The run folders at or below each path, each once; raises `UserError` where there is none."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.is_dir():
            kind = "is a file" if path.exists() else "does not exist"
            raise UserError(f"{path} {kind}: give a run folder, or a folder that holds some.")
        below = sorted(file.parent for file in path.rglob("rounds.jsonl"))
        if not below:
            raise UserError(
                f"No run found: neither {path} nor a folder below it holds a rounds.jsonl. "
                "A run writes it when its first training ends."
            )
        for folder in below:
            found.setdefault(folder.resolve(), folder)
    return tuple(found.values())
