"""How far a run is, and how long it will still take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lth_runner.runs.folder import ROUNDS, TICKETS
from lth_runner.runs.status.liveness import moment
from lth_runner.runs.status.point import Point
from lth_runner.values.json_files import read_bytes


def _trainings(point: Point) -> tuple[int, Sequence[str], int]:
    """Finds replicates, arms and the number of trainings of a run: dense ones have no controls."""
    replicates = point.config.get("replicates", 1)
    arms = ("ticket", *(point.config.get("control") or ()))
    rounds = point.status.get("rounds")
    if not isinstance(replicates, int) or not isinstance(rounds, int) or rounds < 1:
        return 1, arms, 0
    return replicates, arms, replicates * (1 + (rounds - 1) * len(arms))


def progress(point: Point) -> float | None:
    """Estimates the share of a run's trainings that is done; rows come when a round is complete."""
    replicates, arms, trainings = _trainings(point)
    if not trainings:
        return None
    status = point.status
    assert point.folder is not None
    done = float(read_bytes(point.folder / ROUNDS).count(b"\n"))
    facts = [status.get(name) for name in ("round", "seed", "step", "total")]
    first, arm = point.config.get("seed", 0), status.get("arm")
    numbers = [value for value in [*facts, first] if isinstance(value, int)]
    if len(numbers) == 5 and arm in arms:
        number, seed, step, total, first = numbers
        replicate = min(max(seed - first, 0), replicates - 1)
        before, place = replicates * (1 + (number - 1) * len(arms)), arms.index(arm)
        if number == 0:
            before, place, arms = 0, 0, arms[:1]
        done = max(done, before + replicate * len(arms) + place + step / max(total, 1))
    return min(done / trainings, 1.0)


def seconds_left(point: Point, share: float | None) -> float | None:
    """Estimates the seconds left from how long this attempt took for its share of the run."""
    started, updated = (moment(point.status.get(name)) for name in ("started", "updated"))
    if share is None or started is None or updated is None or point.folder is None:
        return None
    replicates, arms, trainings = _trainings(point)
    rounds = _rounds_before(point.folder / TICKETS, started.timestamp())
    before = replicates * (1 + (rounds - 1) * len(arms)) / trainings if rounds else 0.0
    if share <= before or updated <= started:
        return None
    return (updated - started).total_seconds() * (1 - share) / (share - before)


def _rounds_before(tickets: Path, started: float) -> int:
    """Counts the rounds of an earlier attempt, whose tickets are older than this one."""
    return len({p.name[:8] for p in tickets.glob("round-*") if p.stat().st_mtime < started})
