"""How claims of other fields than the headline are read off rows: within a row, an arm, a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from measures import ACCURACY, Found, above, change, level, round_at, within
from scipy.stats import rankdata

from lth_runner.runs.evidence.estimate import (
    ROUNDING,
    Estimate,
    one_sample,
    sample,
    two_sample,
)
from lth_runner.runs.evidence.means import density, mean, number
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.folder import Row

NUM_PERMUTATIONS = 9_999

Runs = Mapping[str, FinishedRun]


def values(run: FinishedRun, arm: str, kept: float, of: str) -> dict[int, float]:
    """Seed -> a field of an arm's rows at a density; empty where the run does not reach it."""
    at = round_at(run, kept, arm)
    return {} if at is None else run.values(arm, at, of)


def about(own: Mapping[int, float], limit: float) -> Estimate:
    return one_sample(sample(list(own.values())), limit)


def than(first: Mapping[int, float], second: Mapping[int, float]) -> Estimate:
    return two_sample(sample(list(first.values())), sample(list(second.values())))


def decided(
    text: str, difference: Estimate, limit: float, *, below: bool, points: bool = True
) -> Found:
    return above(
        text, -difference if below else difference, -limit if below else limit, points=points
    )


@dataclass(frozen=True)
class Beside:
    """One field less another of the same rows, seed by seed; above a limit."""

    kept: float
    first: str
    second: str
    limit: float = 0.0
    arm: str = TICKET
    scale: float = 100.0

    def __call__(self, runs: Runs) -> Found | None:
        ours, theirs = (
            values(runs["run"], self.arm, self.kept, of) for of in (self.first, self.second)
        )
        gaps = {seed: ours[seed] - theirs[seed] for seed in ours if seed in theirs}
        if not gaps:
            return None
        apart = about(gaps, 0.0)
        digits = (self.scale, 2 if self.scale == 100 else 4)
        text = f"{level(ours, *digits)} against {level(theirs, *digits)}: "
        return above(text + change(apart, *digits), apart, self.limit, points=self.scale == 100)


@dataclass(frozen=True)
class Than:
    """A field of the ticket's rows less that of another arm, or of the dense network (None)."""

    kept: float
    of: str
    arm: str | None
    below: bool = False
    limit: float = 0.0
    scale: float = 1.0
    decimals: int = 4
    ours: str = TICKET

    def __call__(self, runs: Runs) -> Found | None:
        run = runs["run"]
        first = values(run, self.ours, self.kept, self.of)
        other = TICKET if self.arm is None else self.arm
        second = values(run, other, 1.0 if self.arm is None else self.kept, self.of)
        if not first or not second:
            return None
        apart = than(first, second)
        levels = [level(one, self.scale, self.decimals) for one in (first, second)]
        text = f"{levels[0]} against {levels[1]}: {change(apart, self.scale, self.decimals)}"
        return decided(text, apart, self.limit, below=self.below, points=self.scale == 100)


@dataclass(frozen=True)
class Level:
    """A field of an arm's rows at a density, above or below a limit."""

    kept: float | None  # None: the last round
    of: str
    limit: float
    below: bool = False
    arm: str = TICKET
    scale: float = 100.0
    decimals: int = 2

    def __call__(self, runs: Runs) -> Found | None:
        run = runs["run"]
        if self.kept is None:
            rounds = run.rounds(self.arm)
            own = run.values(self.arm, rounds[-1], self.of) if rounds else {}
        else:
            own = values(run, self.arm, self.kept, self.of)
        if not own:
            return None
        apart = about(own, self.limit)
        text = (
            f"{level(own, self.scale, self.decimals)}: {change(apart, self.scale, self.decimals)}"
        )
        return decided(text, apart, 0.0, below=self.below, points=self.scale == 100)


@dataclass(frozen=True)
class PerLayer:
    """The factor by which each layer changes a signal, over the one that is expected; near 1.

    Of two fields by layer, in order: ((last / first) / (expected last / first))^(1 / layers).
    """

    kept: float
    arm: str
    first: str
    second: str
    margin: float

    def __call__(self, runs: Runs) -> Found | None:
        run = runs["run"]
        at = round_at(run, self.kept, self.arm)
        rows = () if at is None else run.at(self.arm, at)
        ratios = {row["seed"]: ratio for row in rows if (ratio := self._ratio(row)) is not None}
        if not ratios:
            return None
        apart = about(ratios, 1.0)
        return within(f"{level(ratios, 1, 3)}: {change(apart, 1, 3)}", apart, self.margin)

    def _ratio(self, row: Row) -> float | None:
        per_field = []
        for of in (self.first, self.second):
            found = [number(value) for value in dict(row.get(of) or {}).values()]
            ends = [found[0], found[-1]] if len(found) > 1 else []
            if not all(end is not None and end > 0 for end in ends) or not ends:
                return None
            per_field.append(math.log(ends[1] / ends[0]) / (len(found) - 1))  # type: ignore[operator]
        return math.exp(per_field[0] - per_field[1])


@dataclass(frozen=True)
class AtEqual:
    """A field of the ticket less that of an arm's masks of any density, at an equal other field.

    The arm's is interpolated between its two neighbouring rounds, seed by seed; seeds that the
    arm's rounds do not enclose are left out.
    """

    kept: float
    of: str
    arm: str
    equal: str
    below: bool = False

    def __call__(self, runs: Runs) -> Found | None:
        run = runs["run"]
        ours, level_ = (values(run, TICKET, self.kept, of) for of in (self.of, self.equal))
        theirs: dict[int, float] = {}
        for seed in ours:
            points = sorted(
                (x, y)
                for round_ in run.rounds(self.arm)
                if (x := run.values(self.arm, round_, self.equal).get(seed)) is not None
                and (y := run.values(self.arm, round_, self.of).get(seed)) is not None
            )
            if points and points[0][0] <= level_[seed] <= points[-1][0]:
                theirs[seed] = float(np.interp(level_[seed], *zip(*points, strict=True)))
        gaps = {seed: ours[seed] - theirs[seed] for seed in theirs}
        if len(gaps) < 2:
            return None
        apart = about(gaps, 0.0)
        text = f"{level(ours, 1, 4)} against {level(theirs, 1, 4)}: {change(apart, 1, 4)}"
        return decided(text, apart, 0.0, below=self.below)


@dataclass(frozen=True)
class OrderedBy:
    """The rank correlation of two fields within strata: above 0, or below it.

    Each point is a cell's mean over seeds: a pruner's ticket at one of the densities ``kept``, or
    without those each arm of each round. Ranks within a stratum (the density), less their mean,
    are correlated over all strata. p by permuting pruners and arms, in all strata alike: the same
    ones are alike at neighbouring densities, so that these are no draws of their own.
    """

    first: Callable[[Row], float | None]
    second: str = ACCURACY
    kept: tuple[float, ...] | None = None
    below: bool = False
    least: int = 4  # points of a stratum

    def __call__(self, runs: Runs) -> Found | None:
        strata = [of for of in self._strata(runs).values() if len(of) >= self.least]
        if not strata or (self.kept is not None and len(strata) < len(self.kept)):
            return None
        units = sorted(set.intersection(*(set(of) for of in strata)))
        if len(units) < self.least:
            return None
        ranked = [
            (_ranks([of[unit][0] for unit in units]), _ranks([of[unit][1] for unit in units]))
            for of in strata
        ]
        rho = _correlation(ranked)
        draws = np.random.default_rng(0)
        orders = (draws.permutation(len(units)) for _ in range(NUM_PERMUTATIONS))
        others = [_correlation([(a, b[order]) for a, b in ranked]) for order in orders]
        above_it, below_it = (
            (1 + sum(sign * (other - rho) >= -ROUNDING for other in others)) / (1 + len(others))
            for sign in (1, -1)
        )
        text = f"rank correlation {rho:+.2f} over {len(units) * len(strata)} points"
        text = text.replace("-", "−")
        text += f" of {len(strata)} densities" if len(strata) > 1 else ""
        return Found(text, *((below_it, above_it) if self.below else (above_it, below_it)))

    def _strata(self, runs: Runs) -> dict[object, dict[tuple[str, str], tuple[float, float]]]:
        """Stratum -> pruner and arm -> point: of runs of one chain of rounds the best evidence."""
        found: dict[object, dict[tuple[str, str], tuple[float, float]]] = {}
        for run in runs.values():
            for arm in {row["arm"] for row in run.rows}:
                if self.kept is not None and arm != TICKET:
                    continue
                for round_ in run.rounds(arm):
                    rows = run.at(arm, round_)
                    stratum = self._stratum(rows)
                    pairs = [(self.first(row), number(row.get(self.second))) for row in rows]
                    whole = [(a, b) for a, b in pairs if a is not None and b is not None]
                    if stratum is not None and whole:
                        point = mean([a for a, _ in whole]), mean([b for _, b in whole])
                        found.setdefault(stratum, {}).setdefault((run.pruner, arm), point)
        return found

    def _stratum(self, rows: Sequence[Row]) -> object:
        own = [value for row in rows if (value := density(row)) is not None]
        if not own or mean(own) > 1 - 1e-6:
            return None
        if self.kept is None:
            return round(mean(own), 3)
        near = [kept for kept in self.kept if abs(mean(own) - kept) <= 0.02 * kept]
        return near[0] if near else None


def _ranks(points: Sequence[float]) -> np.ndarray:
    ranks = rankdata(points)
    centred: np.ndarray = ranks - ranks.mean()
    return centred


def _correlation(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    first, second = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
    size = math.sqrt(float(first @ first) * float(second @ second))
    return float(first @ second) / size if size else 0.0


@dataclass(frozen=True)
class Scalar:
    """Reads a field of a row; with ``null``, less another field of it."""

    of: str
    null: str | None = None

    def __call__(self, row: Row) -> float | None:
        own = number(row.get(self.of))
        if self.null is None or own is None:
            return own
        chance = number(row.get(self.null))
        return None if chance is None else own - chance


@dataclass(frozen=True)
class Follows:
    """Spearman's correlation of two fields over a ticket's rounds, seed by seed; above 0."""

    first: str
    second: str

    def __call__(self, runs: Runs) -> Found | None:
        run = runs["run"]
        own: dict[int, list[tuple[float, float]]] = {}
        for round_ in run.rounds(TICKET):
            for row in run.at(TICKET, round_):
                pair = number(row.get(self.first)), number(row.get(self.second))
                if pair[0] is not None and pair[1] is not None:
                    own.setdefault(row["seed"], []).append((pair[0], pair[1]))
        rhos = {
            seed: _correlation([(_ranks([a for a, _ in points]), _ranks([b for _, b in points]))])
            for seed, points in own.items()
            if len(points) >= 4
        }
        if not rhos:
            return None
        apart = about(rhos, 0.0)
        return above(f"{level(rhos, 1, 2)}: {change(apart, 1, 2)}", apart, 0.0, points=False)
