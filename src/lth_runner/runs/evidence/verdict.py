"""Whether a ticket matches its dense network, by differences paired by seed with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from scipy.special import stdtr, stdtrit  # Student t: P(T <= t) and its inverse; loads fast

from lth_runner.runs.evidence.means import mean, std
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.values.measure import Measure

CONFIDENCE = 0.95
ROUNDING = 1e-9  # 0.970 - 0.972 is not exactly -0.002 in binary
MIN_ALIKE = 3  # seeds that must agree to the digit before an interval of no width counts
NEAR_CHANCE = 0.05  # share of the way from chance to the best below which a value says nothing


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
    """Computes paired t statistics over the seeds that both have; None without a common seed.

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


def gains(
    measure: Measure, first: Mapping[int, float], second: Mapping[int, float], margin: float = 0.0
) -> Paired | None:
    """Computes by how much `first` is better than `second`, paired by seed."""
    pair = (first, second) if measure.better == "higher" else (second, first)
    return paired(*pair, margin=margin)


def is_near_chance(measure: Measure, value: float | None) -> bool:
    """Returns whether a value is hardly better than guessing.

    Of a measure that grows to 1: value <= c + 0.05 (1 - c). Of one that falls: value >= 0.95 c.
    """
    if measure.chance is None or value is None:
        return False
    if measure.better == "lower":
        return value >= (1 - NEAR_CHANCE) * measure.chance
    return value <= measure.chance + NEAR_CHANCE * (1 - measure.chance)


@dataclass(frozen=True)
class Level:
    """One arm in one round: the headline measure over its replicates, and how it compares.

    Differences are gains, positive where this arm (`ticket_lead`: the ticket of its round) is
    better. `matches`: on average not worse than the dense network by more than the tolerance, over
    the common seeds, and no replicate diverged; None when it cannot be said, as where the dense
    network is at chance. `ticket_is_better`: the interval of the lead lies above zero, and counts.
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
        """The share of the prunable weights removed."""
        return 1.0 - self.density


@dataclass(frozen=True)
class Verdict:
    """Every (arm, round) beyond the dense one, judged by the headline measure.

    `tolerance` is in its units. `covered`: the share of all parameters that a mask covers, if
    known.
    """

    measure: Measure
    tolerance: float
    dense: Level | None
    controls: tuple[str, ...]
    levels: tuple[Level, ...]
    covered: float | None = None

    @property
    def at_chance(self) -> bool:
        """Whether the dense network is at chance: to do as well as it shows nothing."""
        return self.dense is not None and self.dense.at_chance

    def of(self, arm: str) -> tuple[Level, ...]:
        """Lists the levels of an arm by growing sparsity."""
        return tuple(sorted((x for x in self.levels if x.arm == arm), key=lambda x: x.sparsity))

    def at(self, arm: str, round: int) -> Level | None:
        """Finds the level of an arm in a round."""
        return next((x for x in self.levels if (x.arm, x.round) == (arm, round)), None)

    def last(self, arm: str = TICKET) -> Level | None:
        """Finds the sparsest level that has a value."""
        return next((x for x in reversed(self.of(arm)) if x.mean is not None), None)

    def largest(self, arm: str = TICKET) -> Level | None:
        """Finds the level of largest sparsity that matches, whether or not a smaller one failed."""
        return next((level for level in reversed(self.of(arm)) if level.matches), None)

    def failed_before(self, arm: str) -> tuple[Level, ...]:
        """Levels sparser than dense that do not match although a sparser one does."""
        largest = self.largest(arm)
        if largest is None:
            return ()
        below = (level for level in self.of(arm) if level.sparsity < largest.sparsity)
        return tuple(level for level in below if level.matches is False)


def judge(run: FinishedRun) -> Verdict:
    """Judges what the run has so far."""
    first = run.dense_round
    dense = None if first is None else _level(run, TICKET, first)
    levels = tuple(
        level
        for arm in run.arms
        for round in run.rounds(arm)
        if round != first and (level := _level(run, arm, round)) is not None
    )
    values = {} if first is None else run.values(TICKET, first, run.outcome)
    tolerance = run.tolerance.of(dense.mean if dense else None)
    compared = tuple(_compared(run, level, dense, values, tolerance) for level in levels)
    return Verdict(run.measure, tolerance, dense, run.controls, compared, run.covered)


def _level(run: FinishedRun, arm: str, round: int) -> Level | None:
    rows, kept = run.at(arm, round), run.density(arm, round)
    if not rows or (kept is None and round != run.dense_round):
        return None
    values = run.values(arm, round, run.outcome)
    centre = mean(values.values()) if values else None
    return Level(
        arm=arm,
        round=round,
        density=1.0 if kept is None else kept,
        n=len(values),
        mean=centre,
        std=std(values.values()),
        num_diverged=sum(row.get("diverged") is True for row in rows),
        at_chance=is_near_chance(run.measure, centre),
    )


def _compared(
    run: FinishedRun, level: Level, dense: Level | None, dense_values: Mapping[int, float],
    tolerance: float,
) -> Level:  # fmt: skip
    """Compares a level with the dense network and the ticket of its round."""
    values = run.values(level.arm, level.round, run.outcome)
    against = gains(run.measure, values, dense_values, tolerance)
    matches = None
    if dense_values and level.num_diverged:
        matches = False
    elif against is not None and not (dense and dense.at_chance):
        matches = against.difference >= -tolerance - ROUNDING
    ticket = {} if level.arm == TICKET else run.values(TICKET, level.round, run.outcome)
    lead = gains(run.measure, ticket, values)
    better = lead is not None and lead.is_told(tolerance) and (lead.low or 0.0) > ROUNDING
    return replace(
        level, against_dense=against, matches=matches, ticket_lead=lead, ticket_is_better=better
    )
