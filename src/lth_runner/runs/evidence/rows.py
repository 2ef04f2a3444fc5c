"""A run as its folder has it, finished or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lth_runner.runs.evidence.means import FIRST_ROUND, IDENTITY, density, is_dense, mean, number
from lth_runner.runs.evidence.tolerance import Tolerance
from lth_runner.runs.folder import (
    CONFIG,
    ENVIRONMENT,
    MERGES,
    METRICS,
    PROBLEM,
    ROUNDS,
    STATUS,
    Row,
    checked_mapping,
    checked_rows,
    unfinished,
)
from lth_runner.runs.measure import listed
from lth_runner.runs.samples import FIXED, KeptSamples, Values
from lth_runner.values.errors import UserError
from lth_runner.values.measure import ACCURACY, Measure
from lth_runner.values.steps import Duration
from lth_runner.values.terminal import visible

TICKET = "ticket"


@dataclass(frozen=True)
class FinishedRun:
    """One run folder; a row that was written twice (a resumed round) counts once, the later one."""

    folder: Path
    config: Mapping[str, Any]
    status: Mapping[str, Any]
    environment: Mapping[str, Any]
    rows: tuple[Row, ...]
    problem: Mapping[str, Any] = field(default_factory=dict)
    kept_samples: KeptSamples = field(default_factory=KeptSamples)
    merges: tuple[Row, ...] = ()  # of its trainings with others

    @classmethod
    def load(cls, path: str | Path) -> FinishedRun:
        """Reads `rounds.jsonl` and what lies beside it.

        Raises `UserError` when rounds.jsonl is missing or a file cannot be read.
        """
        folder = Path(path)
        file = folder / ROUNDS
        if not file.is_file():
            if (folder / STATUS).is_file() and (why := unfinished(folder)):
                raise UserError(f"none of its trainings has ended: {why}")
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
            kept_samples=KeptSamples((folder,)),
            merges=_rows_of(folder / MERGES),
        )

    @property
    def name(self) -> str:
        """The run's name in its config, else its folder's."""
        return visible(str(self.config.get("name") or self.folder.resolve().name))

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
    def majority(self) -> float | None:
        """What the most frequent class as the answer to everything reaches, by the headline."""
        found = self.problem.get("majority")
        return number(found.get(self.measure.name)) if isinstance(found, Mapping) else None

    @property
    def unlearned(self) -> Measure:
        """The headline measure, with the better of guessing and the most frequent class."""
        measure, known = self.measure, self.majority
        if known is None or measure.better == "lower":
            return measure
        return replace(measure, chance=max(known, measure.chance or 0.0))

    @property
    def outcome(self) -> str:
        """The field of the rows that verdicts are about, such as test_accuracy."""
        return f"test_{self.measure.name}"

    @property
    def sampled(self) -> str:
        """What a test sample is, in the plural: images, sentences, sequences."""
        return visible(str(self.problem.get("sampled") or "samples"))

    @property
    def draws_samples(self) -> bool:
        """Whether test samples count as a draw of what a network will meet; `report.samples`."""
        return self.option("report", "samples") != FIXED

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

    def by_sample(self, arm: str, round: int) -> dict[int, Values]:
        """Maps seed to what each test sample adds to the headline, over those that kept it.

        Raises UserError for a file of samples that is not what was written.
        """
        found = {}
        for row in self.at(arm, round):
            keys = row.get("training_keys") or (row.get("training_key"),)
            values = [kept for key in keys if (kept := self.kept_samples.of(key)) is not None]
            if len(values) == len(keys) and len({len(one) for one in values}) == 1:
                found[row["seed"]] = sum(values[1:], values[0]) / len(values)
        return found

    def density(self, arm: str, round: int) -> float | None:
        """Averages the density of an arm in a round; None where no row has one."""
        found = [value for row in self.at(arm, round) if (value := density(row)) is not None]
        return mean(found) if found else None

    def metrics(self) -> tuple[Row, ...]:
        """Reads the rows of metrics.jsonl; none when the run recorded none."""
        return _rows_of(self.folder / METRICS)


def _rows_of(file: Path) -> tuple[Row, ...]:
    return tuple(row for _, row in checked_rows(file)) if file.is_file() else ()


def class_name(node: object) -> str:
    """Finds the class that a part of the config names, without its module; empty for none."""
    target = node.get("_target_") if isinstance(node, Mapping) else None
    return str(target or "").rsplit(".", 1)[-1]


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


# --- the points of a sweep


def asked_sparsity(run: FinishedRun) -> float | None:
    """Reads the sparsity that the config asks for; None where it names none."""
    return number(run.option("pruner", "sparsity"))


def step_text(run: FinishedRun) -> str:
    """Writes a rewind step as durations are written."""
    value = run.option("rewind", "step")
    return "" if value is None else str(value) if isinstance(value, str) else f"{value}it"


def rewind_step(run: FinishedRun) -> int | None:
    """Finds the optimizer step that the run's tickets are rewound to; None where nothing tells.

    Whole steps (500it) stand in the config; of epochs and shares, and where a training was shrunk,
    the start of the tickets tells, unless their clock starts over.
    """
    step = duration_of(step_text(run))
    is_whole = step is not None and step.unit == "it" and not run.option("train", "shrink_to")
    if step is not None and (step.amount == 0 or is_whole):
        return int(step.amount)
    if run.option("rewind", "lr_clock") != "restart":
        tickets = [row for row in run.rows if row["arm"] == TICKET and not is_dense(row)]
        starts = {row["start_step"] for row in tickets if isinstance(row.get("start_step"), int)}
        if len(starts) == 1:
            return int(starts.pop())
    lengths = {number(row.get("steps")) for row in run.rows if row["round"] == FIRST_ROUND}
    total = next(iter(lengths), None)
    if step is None or total is None:
        return None
    whole = Duration(100, "%") if step.unit == "%" else duration_of(run.option("train", "length"))
    alike = whole is not None and whole.unit == step.unit and whole.amount > 0
    return round(step.amount / whole.amount * total) if whole and alike else None


def duration_of(value: object) -> Duration | None:
    """Reads a duration such as 12ep; None where the value is none."""
    try:
        return Duration.parse(str(value))
    except UserError:
        return None
