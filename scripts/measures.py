"""How a claim is read off runs: each measure gives the numbers and whether they agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Literal

from lth_runner.runs.evidence.means import density, mean, number, std
from lth_runner.runs.evidence.pruners import find_pruners
from lth_runner.runs.evidence.rows import TICKET, FinishedRun, rewind_step
from lth_runner.runs.evidence.verdict import Paired, paired

ACCURACY = "test_accuracy"  # what the papers tell

Answer = Literal["agrees", "fails", "undecided"]

CLOSE = 0.05  # relative: a round whose density is this near the published one
WITHIN = 0.002  # accuracy that a matching ticket may lose: Frankle et al., arXiv:1912.05671
NEAR = 0.005  # accuracy: ours on all test images, published on 8000 of them, means of 3
EARLY = "best_val_test_accuracy"
STEP = "best_val_step"


@dataclass(frozen=True)
class Found:
    """What runs say: the numbers as they are printed, and whether they agree with the paper."""

    ours: str
    answer: Answer


def round_at(run: FinishedRun, kept: float, arm: str = TICKET) -> int | None:
    """The round of about this density whose replicates are all there."""
    for number_ in run.rounds(arm):
        rows = run.at(arm, number_)
        densities = [value for row in rows if (value := density(row)) is not None]
        complete = len(rows) == int(run.config.get("replicates") or len(run.seeds))
        if complete and densities and abs(mean(densities) - kept) <= CLOSE * kept:
            return number_
    return None


def percent(accuracy: float) -> str:
    """Half a hundredth is rounded up, as in the papers: 0.91675 -> 91.68."""
    return f"{100 * accuracy + 1e-9:.2f}"


def level(values: Mapping[int, float], scale: float = 100.0, decimals: int = 2) -> str:
    """Mean, standard deviation and n: `98.17 ± 0.03 (n = 3)`."""
    spread = std(values.values())
    text = f"{scale * mean(values.values()):.{decimals}f}"
    text += "" if spread is None else f" ± {scale * spread:.{decimals}f}"
    return f"{text} (n = {len(values)})"


def change(pair: Paired, scale: float = 100.0, decimals: int = 2) -> str:
    text = f"{scale * pair.difference:+.{decimals}f}"
    if pair.low is not None and pair.high is not None:
        text += f" [{scale * pair.low:+.{decimals}f}, {scale * pair.high:+.{decimals}f}]"
    return text.replace("-", "−")


def below_zero(pair: Paired) -> Answer:
    """Agrees where the 95 % interval lies below zero; fails where the mean does not."""
    if pair.difference >= 0:
        return "fails"
    return "agrees" if pair.high is not None and pair.high < 0 else "undecided"


@dataclass(frozen=True)
class Densities:
    """Rounds keep the shares of the weights that the paper names, to its one decimal."""

    expected: Mapping[int, float]

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        run = runs["run"]
        found = {n: density(rows[0]) for n in self.expected if (rows := run.at(TICKET, n))}
        if not found:
            return None
        texts = {n: f"{100 * (kept or 0):.1f}" for n, kept in found.items()}
        right = all(text == f"{self.expected[n]:.1f}" for n, text in texts.items())
        named = ", ".join(f"{text} (round {n})" for n, text in texts.items())
        whole = len(found) == len(self.expected)
        return Found(named, "fails" if not right else "agrees" if whole else "undecided")


@dataclass(frozen=True)
class AgainstDense:
    """The ticket less the dense network of the same seeds."""

    kept: float
    worse: bool
    field: str = ACCURACY

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        run = runs["run"]
        at = round_at(run, self.kept)
        if at is None or run.dense_round is None:
            return None
        ticket = run.values(TICKET, at, self.field)
        dense = run.values(TICKET, run.dense_round, self.field)
        pair = paired(ticket, dense)
        if pair is None:
            return None
        text = f"{level(ticket)} against {level(dense)}: {change(pair)}"
        if self.worse:
            return Found(text, below_zero(pair))
        return Found(text, "agrees" if pair.difference >= -WITHIN else "fails")


@dataclass(frozen=True)
class Faster:
    """The step of lowest validation loss of the ticket less the dense network's."""

    kept: float

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        run = runs["run"]
        at = round_at(run, self.kept)
        if at is None or run.dense_round is None:
            return None
        ticket, dense = run.values(TICKET, at, STEP), run.values(TICKET, run.dense_round, STEP)
        pair = paired(ticket, dense)
        if pair is None:
            return None
        steps, before = (level(values, 1, 0) for values in (ticket, dense))
        return Found(f"step {steps} against {before}: {change(pair, 1, 0)}", below_zero(pair))


@dataclass(frozen=True)
class Control:
    """A control less the ticket of the same round and seeds; `drops` says what is expected."""

    kept: float
    arm: str
    drops: bool

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        run = runs["run"]
        at = round_at(run, self.kept, self.arm)
        if at is None:
            return None
        control, ticket = run.values(self.arm, at, ACCURACY), run.values(TICKET, at, ACCURACY)
        pair = paired(control, ticket)
        if pair is None:
            return None
        text = f"{level(control)} against {level(ticket)}: {change(pair)}"
        if self.drops:
            return Found(text, below_zero(pair))
        return Found(text, "agrees" if pair.difference >= -NEAR else "fails")


@dataclass(frozen=True)
class Near:
    """A ticket's accuracy beside the published one."""

    accuracy: float
    kept: float

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        run = runs["run"]
        at = round_at(run, self.kept)
        values = {} if at is None else run.values(TICKET, at, ACCURACY)
        if not values:
            return None
        off = mean(values.values()) - self.accuracy
        text = f"{level(values)}: {100 * off:+.2f}".replace("-", "−")
        return Found(text, "agrees" if abs(off) <= NEAR else "fails")


@dataclass(frozen=True)
class Gap:
    """`first` less `second` at one density: at least half of what was published, and positive."""

    published: float
    kept: float

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        found = []
        for run in (runs["first"], runs["second"]):
            at = round_at(run, self.kept)
            found.append({} if at is None else run.values(TICKET, at, ACCURACY))
        first, second = found
        pair = paired(first, second)
        if pair is None:
            return None
        text = f"{level(first)} against {level(second)}: {change(pair)}"
        if pair.difference < self.published / 2:
            return Found(text, "fails")
        return Found(text, "agrees" if pair.low is not None and pair.low > 0 else "undecided")


@dataclass(frozen=True)
class Ahead:
    """`first` less `second` at one density, both rewound to `step`; positive."""

    kept: float
    step: int

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        if any(rewind_step(run) != self.step for run in runs.values()):
            return None
        return Gap(0.0, self.kept)(runs)


@dataclass(frozen=True)
class Quicker:
    """Seconds until `first` has its mask, as a share of those until `second` has one as sparse."""

    kept: float
    step: int
    limit: float = 0.5

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        if any(rewind_step(run) != self.step for run in runs.values()):
            return None
        found = {
            effort.label: effort.total
            for comparison in find_pruners(list(runs.values()))
            for effort in comparison.efforts
            if abs(1 - effort.sparsity - self.kept) <= CLOSE * self.kept
        }
        first, second = (found.get(runs[role].pruner) for role in ("first", "second"))
        if first is None or not second:
            return None
        text = f"{first:,.0f} s of {second:,.0f} s: {first / second:.2f}"
        return Found(text, "agrees" if first / second < self.limit else "fails")


@dataclass(frozen=True)
class Barrier:
    """Error on the line between two trainings above its ends, in points, by parting step."""

    stable: bool
    step: str = "0"
    limit: float = 0.02
    fields: tuple[str, ...] = field(
        default=("instability_recomputed_by_step", "instability_by_step")
    )

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        values: dict[int, float] = {}
        for row in runs["run"].at(TICKET, 0):
            by_step = next((row[name] for name in self.fields if name in row), {})
            if (value := number(by_step.get(self.step))) is not None:
                values[row["seed"]] = value
        if not values:
            return None
        is_stable = fmean(values.values()) < self.limit
        return Found(f"{level(values)} points", "agrees" if is_stable is self.stable else "fails")
