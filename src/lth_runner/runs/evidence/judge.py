"""Whether a ticket matches its dense network, and whether it beats its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lth_runner.runs.evidence.differences import Differences
from lth_runner.runs.evidence.estimate import (
    DIFFERENCE_LEVEL,
    ROUNDING,
    Estimate,
    Key,
    Word,
    decide,
    decide_all,
)
from lth_runner.runs.evidence.means import mean, std
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.values.measure import Measure

NEAR_CHANCE = 0.05  # share of the way from chance to the best below which a value says nothing


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
class Held:
    """A level held against another; `lead`: by how much ours is better, where both have a value."""

    ours: Level
    theirs: Level | None
    lead: Estimate | None


def ruling(held: Held, *, as_good: bool) -> Literal["refuted", "silent", "open"]:
    """Says what is decided before a difference is looked at.

    `refuted` where a training of ours diverged: those that did not are no draw of what it does.
    `silent` where there is nothing to be held against, or, of being `as_good` as another, where
    that one is at chance: to do as well as guessing shows nothing, to do better does. Else `open`.
    """
    if held.theirs is None or held.theirs.mean is None:
        return "silent"
    if held.ours.num_diverged:
        return "refuted"
    return "silent" if as_good and held.theirs.at_chance else "open"


def words(
    every: Mapping[Key, Held], limit: float, level: float, *, as_good: bool
) -> dict[Key, Word]:
    """Says of each whether ours is above a limit; those that nothing can be said of are left out.

    What no ruling decides is corrected for how many they are (Holm), so that any wrong one among
    the shown has the chance of one, and any among the refuted.
    """
    ruled = {key: ruling(held, as_good=as_good) for key, held in every.items()}
    asked = {
        key: held.lead
        for key, held in every.items()
        if ruled[key] == "open" and held.lead is not None
    }
    decided = decide_all(asked, limit, level)
    return {
        key: "refuted" if ruled[key] == "refuted" else decided[key]
        for key in every
        if ruled[key] == "refuted" or key in decided
    }


def judge(run: FinishedRun) -> Verdict:
    """Judges what the run has so far."""
    first = run.dense_round
    dense = None if first is None else level_at(run, TICKET, first)
    levels = [
        level
        for arm in run.arms
        for round in run.rounds(arm)
        if round != first and (level := level_at(run, arm, round)) is not None
    ]
    tolerance = run.tolerance.of(dense.mean if dense else None)
    differ = Differences(run)
    compared = [_compared(differ, level, dense, tolerance) for level in levels]
    better = _shown_better(compared)
    told = tuple(
        replace(level, ticket_is_better=(level.arm, level.round) in better) for level in compared
    )
    return Verdict(
        run.measure, tolerance, dense, run.controls, told, run.covered, differ.is_paired,
        run.sampled, run.draws_samples, _num_kept(run, first),
    )  # fmt: skip


def _num_kept(run: FinishedRun, dense: int | None) -> int:
    """Counts the test samples whose outcomes the dense network's trainings have kept."""
    kept = run.by_sample(TICKET, dense) if run.draws_samples and dense is not None else {}
    return max((len(values) for values in kept.values()), default=0)


def _shown_better(levels: Sequence[Level]) -> set[tuple[str, int]]:
    """Lists the (arm, round) where the ticket is better, corrected for how many are looked at."""
    tickets = {level.round: level for level in levels if level.arm == TICKET}
    held = {
        (level.arm, level.round): Held(tickets[level.round], level, level.ticket_lead)
        for level in levels
        if level.arm != TICKET and level.round in tickets
    }
    found = words(held, 0.0, DIFFERENCE_LEVEL, as_good=False)
    return {cell for cell, word in found.items() if word == "shown"}


def level_at(run: FinishedRun, arm: str, round: int) -> Level | None:
    """Reads what an arm's trainings of a round reached; None where there are none."""
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
        at_chance=is_near_chance(run.unlearned, centre),
    )


def _compared(differ: Differences, level: Level, dense: Level | None, tolerance: float) -> Level:
    """Compares a level with the dense network and the ticket of its round."""
    cell = level.arm, level.round
    against = differ(cell, (TICKET, dense.round)) if dense else None
    matches: Word | None = None
    here: Word | None = None
    ruled = ruling(Held(level, dense, against), as_good=True)
    if ruled == "refuted":
        matches = here = "refuted"
    elif ruled == "open" and against is not None:
        matches, here = (decide(one, -tolerance) for one in (against, against.fixed))
    within = None
    if matches is not None:
        enough = against is not None and against.difference >= -tolerance - ROUNDING
        within = enough and not level.num_diverged
    lead = None if level.arm == TICKET else differ((TICKET, level.round), cell)
    return replace(
        level, against_dense=against, matches=matches, matches_here=here, within=within,
        ticket_lead=lead,
    )  # fmt: skip
