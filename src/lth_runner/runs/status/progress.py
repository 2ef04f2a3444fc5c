"""How far a run is, and how long it will still take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lth_runner.runs.folder import ROUNDS, TICKETS
from lth_runner.runs.status.liveness import moment
from lth_runner.runs.status.point import Point
from lth_runner.values.json_files import read_bytes


@dataclass(frozen=True)
class _Trainings:
    """The trainings of a run, round by round; dense rounds, which come first, have no controls."""

    replicates: int
    arms: Sequence[str]
    rounds: int
    num_dense: int

    @classmethod
    def of(cls, point: Point) -> _Trainings | None:
        """Reads them off config and status; None where these do not tell."""
        replicates, rounds = point.config.get("replicates", 1), point.status.get("rounds")
        if not isinstance(replicates, int) or not isinstance(rounds, int) or rounds < 1:
            return None
        arms = ("ticket", *(point.config.get("control") or ()))
        return cls(replicates, arms, rounds, 0 if point.config.get("pruner.dense") is False else 1)

    def before(self, round: int) -> int:
        """Counts those of the rounds before one."""
        dense = min(round, self.num_dense)
        return self.replicates * (dense + (round - dense) * len(self.arms))

    @property
    def num(self) -> int:
        return self.before(self.rounds)


def progress(point: Point) -> float | None:
    """Estimates the share of a run's trainings that is done; rows come when a round is complete."""
    trainings, status = _Trainings.of(point), point.status
    if trainings is None or not trainings.num:
        return None
    assert point.folder is not None
    done = float(read_bytes(point.folder / ROUNDS).count(b"\n"))
    facts = [status.get(name) for name in ("round", "seed", "step", "total")]
    first, arm = point.config.get("seed", 0), status.get("arm")
    numbers = [value for value in [*facts, first] if isinstance(value, int)]
    if len(numbers) == 5 and arm in trainings.arms:
        number, seed, step, total, first = numbers
        replicate = min(max(seed - first, 0), trainings.replicates - 1)
        arms = trainings.arms[: 1 if number < trainings.num_dense else None]
        place = replicate * len(arms) + (arms.index(arm) if arm in arms else 0)
        done = max(done, trainings.before(number) + place + step / max(total, 1))
    return min(done / trainings.num, 1.0)


def seconds_left(point: Point, share: float | None) -> float | None:
    """Estimates the seconds left from how long this attempt took for its share of the run."""
    started, updated = (moment(point.status.get(name)) for name in ("started", "updated"))
    trainings = _Trainings.of(point)
    if share is None or started is None or updated is None or point.folder is None:
        return None
    rounds = _rounds_before(point.folder / TICKETS, started.timestamp())
    before = trainings.before(rounds) / trainings.num if trainings else 0.0
    if share <= before or updated <= started:
        return None
    return (updated - started).total_seconds() * (1 - share) / (share - before)


def _rounds_before(tickets: Path, started: float) -> int:
    """Counts the rounds of an earlier attempt, whose tickets are older than this one."""
    return len({p.name[:8] for p in tickets.glob("round-*") if p.stat().st_mtime < started})
