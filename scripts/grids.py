"""How claims over several runs are read off them: settings side by side, the best of a grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fields import Runs, about, decided, than, values
from measures import ACCURACY, Found, above, change, level, within

from lth_runner.runs.evidence.means import density, mean, number
from lth_runner.runs.evidence.rows import TICKET

DIGITS = 6  # of an accuracy, as rows are kept


@dataclass(frozen=True)
class Where:
    """Another measure, of runs whose config has certain values: role -> (path, value) pairs."""

    measure: Callable[[Runs], Found | None]
    options: Mapping[str, Sequence[tuple[tuple[str, ...], object]]]

    def __call__(self, runs: Runs) -> Found | None:
        for role, wanted in self.options.items():
            if any(runs[role].option(*path) != value for path, value in wanted):
                return None
        return self.measure(runs)


@dataclass(frozen=True)
class Best:
    """A cell of a grid of (norm, batch size) less another, at one density.

    Each takes the learning rate whose validation accuracy at this density is the best on average,
    of equal ones the smallest.
    """

    kept: float
    first: tuple[str, int]
    second: tuple[str, int]
    limit: float = 0.0
    below: bool = False
    near: float | None = None  # within so much instead

    def __call__(self, runs: Runs) -> Found | None:
        chosen = [self._chosen(runs, *cell) for cell in (self.first, self.second)]
        if chosen[0] is None or chosen[1] is None:
            return None
        (ours, our_rate), (theirs, their_rate) = chosen  # type: ignore[misc]
        apart = than(ours, theirs)
        text = f"{level(ours)} (lr {our_rate:g}) against {level(theirs)} (lr {their_rate:g}): "
        text += change(apart)
        if self.near is not None:
            return within(text, apart, self.near)
        return decided(text, apart, self.limit, below=self.below)

    def _chosen(self, runs: Runs, norm: str, batch: int) -> tuple[dict[int, float], float] | None:
        found = {}
        for run in runs.values():
            if (run.option("model", "norm"), run.option("train", "batch_size")) != (norm, batch):
                continue
            tuned, own = (values(run, TICKET, self.kept, of) for of in ("val_accuracy", ACCURACY))
            rate = number(run.option("train", "optimizer", "lr"))
            if tuned and own and rate is not None:
                found[rate] = mean(list(tuned.values())), own
        if len(found) < 3:
            return None
        rate = max(found, key=lambda one: (round(found[one][0], DIGITS), -one))
        return found[rate][1], rate


@dataclass(frozen=True)
class Settled:
    """The distance of two successive masks of the dense training, at a share of it; below a limit.

    Of ``mask_distance_curve``, one value for each epoch from the second on.
    """

    share: float
    limit: float

    def __call__(self, runs: Runs) -> Found | None:
        own = {}
        for row in runs["run"].at(TICKET, 0):
            curve = [number(value) for value in row.get("mask_distance_curve") or []]
            epoch = round(self.share * (len(curve) + 1))
            value = curve[epoch - 2] if 2 <= epoch <= len(curve) + 1 else None
            if value is not None:
                own[row["seed"]] = value
        if not own:
            return None
        apart = about(own, self.limit)
        return decided(
            f"{level(own, 1, 4)}: {change(apart, 1, 4)}", apart, 0.0, below=True, points=False
        )


@dataclass(frozen=True)
class AtItsDensity:
    """A ticket whose density was found less another run's of the nearest density; above 0."""

    initial: float
    least: int = 2

    def __call__(self, runs: Runs) -> Found | None:
        learned, pruned = runs["first"], runs["second"]
        if learned.option("pruner", "initial") != self.initial or learned.option(
            "pruner", "sparsity"
        ):
            return None
        if not learned.rounds(TICKET):
            return None
        last = learned.rounds(TICKET)[-1]
        ours = learned.values(TICKET, last, ACCURACY)
        densities = [kept for row in learned.at(TICKET, last) if (kept := density(row))]
        by_round = {
            round_: kept
            for round_ in pruned.rounds(TICKET)
            if (kept := density(pruned.at(TICKET, round_)[0])) is not None
        }
        if last == 0 or len(ours) < self.least or not densities or not by_round:
            return None
        found = mean(densities)
        nearest = min(by_round, key=lambda one: abs(math.log(by_round[one] / found)))
        theirs = pruned.values(TICKET, nearest, ACCURACY)
        if abs(math.log(by_round[nearest] / found)) > math.log(1.25) or not theirs:
            return None
        apart = than(ours, theirs)
        text = f"{level(ours)} at {100 * found:.2f} % against {level(theirs)} at "
        text += f"{100 * by_round[nearest]:.2f} %: {change(apart)}"
        return above(text, apart, 0.0)


@dataclass(frozen=True)
class LessDense:
    """The ticket of ``first`` less the dense network of ``second``; above a limit."""

    kept: float
    limit: float

    def __call__(self, runs: Runs) -> Found | None:
        ours = values(runs["first"], TICKET, self.kept, ACCURACY)
        theirs = values(runs["second"], TICKET, 1.0, ACCURACY)
        if not ours or not theirs:
            return None
        apart = than(ours, theirs)
        return above(f"{level(ours)} against {level(theirs)}: {change(apart)}", apart, self.limit)
