"""Whether a ticket matches its dense network: differences paired by seed, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit  # Student t: P(T <= t) and its inverse; loads fast

from lth_runner.report.rows import ACCURACY, TICKET, Run, density, mean, std

CONFIDENCE = 0.95
ROUNDING = 1e-9  # 0.970 - 0.972 is not exactly -0.002 in binary


@dataclass(frozen=True)
class Paired:
    """Mean of `first - second` over n seeds, its 95 % t interval, and p of H0: it is <= -margin."""

    n: int
    difference: float
    low: float | None
    high: float | None
    p: float | None


def paired(
    first: Mapping[int, float], second: Mapping[int, float], *, margin: float = 0.0
) -> Paired | None:
    """Paired t statistics over the seeds that both have; None without a common seed.

    t = (mean + margin) / (s / sqrt(n)), n - 1 degrees of freedom; n = 1 has neither interval nor p.
    """
    differences = [first[seed] - second[seed] for seed in first if seed in second]
    if not differences:
        return None
    n, centre, spread = len(differences), mean(differences), std(differences)
    if spread is None:
        return Paired(n, centre, None, None, None)
    error = spread / math.sqrt(n)
    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    excess = centre + margin
    p = float(stdtr(n - 1, -excess / error)) if error > 0 else 0.0 if excess > ROUNDING else 1.0
    return Paired(n, centre, centre - half, centre + half, p)


@dataclass(frozen=True)
class Level:
    """One arm in one round: accuracies (0..1) over its replicates, and how they compare.

    `matches`: mean >= mean of the dense network - tolerance over the common seeds, and no replicate
    diverged; None when it cannot be said. `ticket_lead`: the ticket minus this arm, same round.
    """

    arm: str
    round: int
    density: float
    n: int
    mean: float | None
    std: float | None
    num_diverged: int
    against_dense: Paired | None = None
    matches: bool | None = None
    ticket_lead: Paired | None = None

    @property
    def sparsity(self) -> float:
        return 1.0 - self.density

    @property
    def ticket_is_better(self) -> bool:
        """The interval of the paired difference ticket - this arm lies above zero."""
        lead = self.ticket_lead
        return lead is not None and lead.low is not None and lead.low > 0


@dataclass(frozen=True)
class Verdict:
    """Every (arm, round) beyond the dense one, judged."""

    tolerance: float
    dense: Level | None
    controls: tuple[str, ...]
    levels: tuple[Level, ...]

    def of(self, arm: str) -> tuple[Level, ...]:
        """The levels of an arm by growing sparsity."""
        return tuple(sorted((x for x in self.levels if x.arm == arm), key=lambda x: x.sparsity))

    def at(self, arm: str, round: int) -> Level | None:
        return next((x for x in self.levels if (x.arm, x.round) == (arm, round)), None)

    def largest(self, arm: str) -> Level | None:
        """The level of largest sparsity that matches, whether or not a smaller one failed."""
        return next((level for level in reversed(self.of(arm)) if level.matches), None)

    def failed_before(self, arm: str) -> tuple[Level, ...]:
        """Levels sparser than dense that do not match although a sparser one does."""
        largest = self.largest(arm)
        if largest is None:
            return ()
        below = (level for level in self.of(arm) if level.sparsity < largest.sparsity)
        return tuple(level for level in below if level.matches is False)


def judge(run: Run) -> Verdict:
    """The verdict on what the run has so far."""
    tolerance = run.tolerance
    first = run.dense_round
    dense_values = None if first is None else run.values(TICKET, first, ACCURACY)
    dense = None if first is None else _level(run, TICKET, first, None, tolerance)
    levels = tuple(
        level
        for arm in run.arms
        for round in run.rounds(arm)
        if round != first
        and (level := _level(run, arm, round, dense_values, tolerance)) is not None
    )
    return Verdict(tolerance, dense, run.controls, levels)


def _level(
    run: Run, arm: str, round: int, dense: Mapping[int, float] | None, tolerance: float
) -> Level | None:
    rows = run.at(arm, round)
    kept = [value for value in map(density, rows) if value is not None]
    if not rows or not (kept or round == run.dense_round):
        return None
    values = run.values(arm, round, ACCURACY)
    num_diverged = sum(row.get("diverged") is True for row in rows)
    against = None if dense is None else paired(values, dense, margin=tolerance)
    matches = None
    if dense and num_diverged:
        matches = False
    elif against is not None:
        matches = against.difference >= -tolerance - ROUNDING
    ticket = {} if arm == TICKET else run.values(TICKET, round, ACCURACY)
    return Level(
        arm=arm,
        round=round,
        density=mean(kept) if kept else 1.0,
        n=len(values),
        mean=mean(values.values()) if values else None,
        std=std(values.values()),
        num_diverged=num_diverged,
        against_dense=against,
        matches=matches,
        ticket_lead=paired(ticket, values),
    )
