"""Whether a ticket matches its dense network: differences paired by seed, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scipy.special import stdtr, stdtrit  # Student t: P(T <= t) and its inverse; loads fast

from lth_runner.runs.report.rows import ACCURACY, TICKET, Run, density, mean, number, std

CONFIDENCE = 0.95
ROUNDING = 1e-9  # 0.970 - 0.972 is not exactly -0.002 in binary
MIN_ALIKE = 3  # seeds that must agree to the digit before an interval of no width counts
NEAR_CHANCE = 0.05  # share of the way from chance to 1 below which an accuracy says nothing


@dataclass(frozen=True)
class Paired:
    """Mean of `first - second` over n seeds, its 95 % t interval, and p of H0: it is <= -margin.

    Accuracies are multiples of one test image: that all differences are equal, so that the
    interval has no width, shows how coarse they are rather than how certain. Then there is no p.
    """

    n: int
    difference: float
    low: float | None
    high: float | None
    p: float | None

    @property
    def is_flat(self) -> bool:
        """Whether its interval has no width."""
        return self.low is not None and self.high is not None and self.high - self.low <= ROUNDING

    def is_told(self, tolerance: float) -> bool:
        """Whether its interval counts; a flat one does of 3 seeds and beyond the tolerance."""
        if self.low is None:
            return False
        beyond = abs(self.difference) > tolerance + ROUNDING
        return not self.is_flat or (self.n >= MIN_ALIKE and beyond)


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
    found = Paired(n, centre, centre - half, centre + half, None)
    if found.is_flat:
        return found
    return replace(found, p=float(stdtr(n - 1, -(centre + margin) / error)))


@dataclass(frozen=True)
class Level:
    """One arm in one round: accuracies (0..1) over its replicates, and how they compare.

    `matches`: mean >= mean of the dense network - tolerance over the common seeds, and no replicate
    diverged; None when it cannot be said, as where the dense network is at chance. `at_chance`: the
    mean is hardly above guessing. `ticket_lead`: the ticket minus this arm, same round.
    `ticket_is_better`: the interval of that lies above zero, and counts.
    """

    arm: str
    round: int
    density: float
    n: int
    mean: float | None
    std: float | None
    num_diverged: int
    at_chance: bool
    against_dense: Paired | None = None
    matches: bool | None = None
    ticket_lead: Paired | None = None
    ticket_is_better: bool = False

    @property
    def sparsity(self) -> float:
        return 1.0 - self.density


@dataclass(frozen=True)
class Verdict:
    """Every (arm, round) beyond the dense one, judged."""

    tolerance: float
    dense: Level | None
    controls: tuple[str, ...]
    levels: tuple[Level, ...]

    @property
    def at_chance(self) -> bool:
        """Whether the dense network is at chance: to do as well as it shows nothing."""
        return self.dense is not None and self.dense.at_chance

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
    first = run.dense_round
    dense = None if first is None else _level(run, TICKET, first)
    levels = tuple(
        level
        for arm in run.arms
        for round in run.rounds(arm)
        if round != first and (level := _level(run, arm, round)) is not None
    )
    values = {} if first is None else run.values(TICKET, first, ACCURACY)
    compared = [_compared(run, level, dense, values) for level in levels]
    return Verdict(run.tolerance, dense, run.controls, tuple(compared))


def is_near_chance(run: Run, accuracy: float | None) -> bool:
    """Whether an accuracy is at most c + 0.05 (1 - c), c = 1 / dataset.num_classes."""
    dataset = run.config.get("dataset")
    classes = number(dataset.get("num_classes")) if isinstance(dataset, Mapping) else None
    if classes is None or classes < 1 or accuracy is None:
        return False
    chance = 1 / classes
    return accuracy <= chance + NEAR_CHANCE * (1 - chance)


def _level(run: Run, arm: str, round: int) -> Level | None:
    rows = run.at(arm, round)
    kept = [value for value in map(density, rows) if value is not None]
    if not rows or not (kept or round == run.dense_round):
        return None
    values = run.values(arm, round, ACCURACY)
    accuracy = mean(values.values()) if values else None
    return Level(
        arm=arm,
        round=round,
        density=mean(kept) if kept else 1.0,
        n=len(values),
        mean=accuracy,
        std=std(values.values()),
        num_diverged=sum(row.get("diverged") is True for row in rows),
        at_chance=is_near_chance(run, accuracy),
    )


def _compared(
    run: Run, level: Level, dense: Level | None, dense_values: Mapping[int, float]
) -> Level:
    """A level beside the dense network and the ticket of its round."""
    values = run.values(level.arm, level.round, ACCURACY)
    against = paired(values, dense_values, margin=run.tolerance)
    matches = None
    if dense_values and level.num_diverged:
        matches = False
    elif against is not None and not (dense and dense.at_chance):
        matches = against.difference >= -run.tolerance - ROUNDING
    ticket = {} if level.arm == TICKET else run.values(TICKET, level.round, ACCURACY)
    lead = paired(ticket, values)
    better = lead is not None and lead.is_told(run.tolerance) and (lead.low or 0.0) > ROUNDING
    return replace(
        level, against_dense=against, matches=matches, ticket_lead=lead, ticket_is_better=better
    )
