"""How a claim is read off runs: each measure gives the numbers and the p-values that decide."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from lth_runner.runs.evidence.differences import Differences
from lth_runner.runs.evidence.estimate import Estimate, one_sample, sample, two_sample
from lth_runner.runs.evidence.judge import Held, level_at, ruling
from lth_runner.runs.evidence.means import density, mean, number, std
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Level

ACCURACY = "test_accuracy"  # what the papers tell

CLOSE = 0.05  # relative: a round whose density is this near the published one
WITHIN = 0.002  # accuracy that a matching ticket may lose: Frankle et al., arXiv:1912.05671
NEAR = 0.005  # accuracy: ours on all test images, published on 8000 of them, means of 3
EARLY = "best_val_test_accuracy"
STEP = "best_val_step"


@dataclass(frozen=True)
class Found:
    """What runs say: the numbers as they are printed, and how sure the claim and its reverse are.

    `for_it`: the p-value of what is to be refuted before the claim counts as shown, `against_it`
    that of the claim; None without an interval. What is counted and not estimated has 0 or 1.
    ``lead``: the difference in the direction that is claimed, less the rule's limit, in shares;
    None of other units, and where a rule has two sides.
    """

    ours: str
    for_it: float | None
    against_it: float | None
    lead: Estimate | None = None


def counted(ours: str, *, right: bool) -> Found:
    """What is read off without an error."""
    return Found(ours, 0.0 if right else 1.0, 1.0 if right else 0.0)


def above(ours: str, estimate: Estimate, limit: float, *, points: bool = True) -> Found:
    """The claim that a difference lies above a limit; ``points``: a difference of shares."""
    p = estimate.p_above(limit)
    lead = replace(estimate, difference=estimate.difference - limit) if points else None
    return Found(ours, p, None if p is None else 1 - p, lead)


def ruled(
    ours: str, held: Held | None, limit: float, *, as_good: bool, points: bool = True
) -> Found:
    """The claim that ours is above a limit of another, where no verdict has decided already.

    Refuted where a training of ours diverged; open where there is nothing to be held against, or,
    of being `as_good`, where the other is at chance.
    """
    said = "silent" if held is None else ruling(held, as_good=as_good)
    if said == "refuted":
        return counted(ours, right=False)
    if held is None or held.lead is None or said == "silent":
        return Found(ours, None, None)
    return above(ours, held.lead, limit, points=points)


def within(ours: str, estimate: Estimate, margin: float) -> Found:
    """The claim that a difference lies within a margin of 0."""
    return Found(ours, *(estimate.p_within(margin) or (None, None)))


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
    return f"{text} (n = {len(values)})".replace("-", "−")


def change(pair: Estimate, scale: float = 100.0, decimals: int = 2) -> str:
    text = f"{scale * pair.difference:+.{decimals}f}"
    if pair.low is not None and pair.high is not None:
        text += f" [{scale * pair.low:+.{decimals}f}, {scale * pair.high:+.{decimals}f}]"
    return text.replace("-", "−")


def held(ours: Level | None, theirs: Level | None, lead: Estimate) -> Held | None:
    return None if ours is None else Held(ours, theirs, lead)


def compared(
    run: FinishedRun, first: tuple[str, int], second: tuple[str, int], of: str = ACCURACY
) -> tuple[str, Estimate] | None:
    """Both levels with their difference, as printed; and the difference."""
    ours, theirs = (run.values(*cell, of) for cell in (first, second))
    difference = Differences(run, of)(first, second)
    if difference is None:
        return None
    return f"{level(ours)} against {level(theirs)}: {change(difference)}", difference


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
        if right and len(found) < len(self.expected):
            return Found(named, None, None)
        return counted(named, right=right)


@dataclass(frozen=True)
class AgainstDense:
    """The ticket, or an arm beside it in the same round, less the dense network."""

    kept: float
    worse: bool
    field: str = ACCURACY
    arm: str = TICKET
    margin: float = WITHIN

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        run = runs["run"]
        at, first = round_at(run, self.kept), run.dense_round
        if at is None or first is None:
            return None
        found = compared(run, (self.arm, at), (TICKET, first), self.field)
        if found is None:
            return None
        text, difference = found
        ours, dense = level_at(run, self.arm, at), level_at(run, TICKET, first)
        if self.worse:
            return ruled(text, held(dense, ours, -difference), 0.0, as_good=False)
        return ruled(text, held(ours, dense, difference), -self.margin, as_good=True)


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
        if not ticket or not dense:
            return None
        earlier = two_sample(*(sample(list(of.values())) for of in (ticket, dense)))
        steps, before = (level(values, 1, 0) for values in (ticket, dense))
        levels = [level_at(run, TICKET, number_) for number_ in (at, run.dense_round)]
        text = f"step {steps} against {before}: {change(earlier, 1, 0)}"
        return ruled(text, held(*levels, -earlier), 0.0, as_good=True, points=False)


@dataclass(frozen=True)
class Control:
    """A control less the ticket of the same round; `drops` says what is expected."""

    kept: float
    arm: str
    drops: bool

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        run = runs["run"]
        at = round_at(run, self.kept, self.arm)
        found = None if at is None else compared(run, (self.arm, at), (TICKET, at))
        if at is None or found is None:
            return None
        text, difference = found
        control, ticket = level_at(run, self.arm, at), level_at(run, TICKET, at)
        if self.drops:
            return ruled(text, held(ticket, control, -difference), 0.0, as_good=False)
        return ruled(text, held(control, ticket, difference), -NEAR, as_good=True)


@dataclass(frozen=True)
class Near:
    """A ticket's accuracy beside the published one, which is taken as it stands."""

    accuracy: float
    kept: float

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        run = runs["run"]
        at = round_at(run, self.kept)
        values = {} if at is None else run.values(TICKET, at, ACCURACY)
        if at is None or not values:
            return None
        off = one_sample(Differences(run, ACCURACY).sample((TICKET, at)), self.accuracy)
        if (ours := level_at(run, TICKET, at)) is not None and ours.num_diverged:
            return counted(level(values), right=False)
        return within(f"{level(values)}: {change(off)}", off, NEAR)


def is_same(pairs: Iterable[tuple[FinishedRun, tuple[str, int]]]) -> bool:
    """Whether two cells of runs are the very same trainings, which tells nothing of either."""
    keys = [{row.get("training_key") for row in run.at(*cell)} for run, cell in pairs]
    return keys[0] == keys[1] and None not in keys[0]


def beside(
    runs: Sequence[FinishedRun], kept: float
) -> tuple[list[dict[int, float]], list[Level | None], Estimate] | None:
    """Two runs' tickets of one density: accuracies, levels, the first less the second."""
    places = [(TICKET, at) for run in runs if (at := round_at(run, kept)) is not None]
    if len(places) < 2:
        return None
    first, second = (Differences(run, ACCURACY) for run in runs)
    lead = first.beside(places[0], second, places[1])
    if lead is None:
        return None
    pairs = list(zip(runs, places, strict=True))
    values = [run.values(*place, ACCURACY) for run, place in pairs]
    return values, [level_at(run, *place) for run, place in pairs], lead


@dataclass(frozen=True)
class Gap:
    """`first` less `second` at one density: more than half of what was published, and positive."""

    published: float
    kept: float

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        found = beside((runs["first"], runs["second"]), self.kept)
        if found is None:
            return None
        (first, second), levels, difference = found
        text = f"{level(first)} against {level(second)}: {change(difference)}"
        return ruled(text, held(*levels, difference), self.published / 2, as_good=False)


@dataclass(frozen=True)
class Behind:
    """`first` less `second` at one density; negative."""

    kept: float

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        found = beside((runs["second"], runs["first"]), self.kept)
        if found is None:
            return None
        (other, ours), levels, lead = found
        text = f"{level(ours)} against {level(other)}: {change(-lead)}"
        return ruled(text, held(*levels, lead), 0.0, as_good=False)


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
        over = one_sample(sample(list(values.values())), self.limit)
        text = f"{level(values)} points: {change(over)} to the limit"
        return above(text, -over if self.stable else over, 0.0)
