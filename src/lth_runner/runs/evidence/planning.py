"""How many seeds an experiment would need, planned from the variance of the seeds it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lth_runner.runs.evidence.estimate import DIFFERENCE_LEVEL, Estimate
from lth_runner.runs.evidence.means import even_places
from lth_runner.runs.evidence.needed import samples_hinder, seeds_needed
from lth_runner.runs.evidence.rows import TICKET
from lth_runner.runs.evidence.verdict import Level, Verdict

SHARES = (0.0, 0.5)  # of the tolerance, that a ticket is taken to lose in truth
MOST_ROUNDS = 8


@dataclass(frozen=True)
class Plan:
    """The seeds of each arm that show a round's match, for each loss it may truly have.

    `spread`: the standard deviation of a difference of one seed each, over seeds; `lasting`: what
    the draw of test samples adds, however many seeds there are, None where it is not counted.
    `seeds`: None where no number of up to a thousand would do; `hindered`: whether it is the test
    samples that stand in the way.
    """

    level: Level
    seen: Estimate
    spread: float
    lasting: float | None
    seeds: tuple[int | None, ...]
    hindered: tuple[bool, ...]


def losses(verdict: Verdict) -> tuple[float, ...]:
    """Lists the losses that are planned for: none, and half the tolerance."""
    return tuple(share * verdict.tolerance for share in SHARES)


def plan(verdict: Verdict) -> tuple[Plan, ...]:
    """Plans for the rounds from the sparsest shown match to the first refuted one, eight at most.

    (sd^2 / n + v) (t_{1-level} + t_{power})^2 <= (tolerance - loss)^2, power 80 %, v what test
    samples leave: the rule that also says how many seeds would decide what is undecided. Empty
    where nothing tells how much seeds vary, or to match shows nothing.
    """
    near = [one for one in verdict.of(TICKET) if _why_left_out(verdict, one) is None]
    return tuple(_plan(verdict, near[place]) for place in even_places(len(near), MOST_ROUNDS))


def left_out(verdict: Verdict, found: Sequence[Plan]) -> dict[str, tuple[Level, ...]]:
    """Lists the rounds that are not planned for, by the reason."""
    planned, reasons = {one.level.round for one in found}, dict[str, tuple[Level, ...]]()
    for one in verdict.of(TICKET):
        if one.round not in planned:
            why = _why_left_out(verdict, one) or f"between these, {MOST_ROUNDS} at most are told"
            reasons[why] = (*reasons.get(why, ()), one)
    return reasons


def _why_left_out(verdict: Verdict, level: Level) -> str | None:
    shown = verdict.shown()
    known = [one for one in verdict.of(TICKET) if one.matches is not None]
    refuted = next((one for one in known if one.matches == "refuted"
                    and (shown is None or one.sparsity > shown.sparsity)), None)  # fmt: skip
    if level.matches is None or level.against_dense is None:
        return "without a value to compare"
    if shown is not None and level.sparsity < shown.sparsity:
        return "denser than the sparsest match that is shown"
    if refuted is not None and level.sparsity > refuted.sparsity:
        return "sparser than the first that is refuted"
    if level.against_dense.error is None:
        return "where nothing tells how much seeds differ"
    return None


def _plan(verdict: Verdict, level: Level) -> Plan:
    seen = level.against_dense
    assert seen is not None
    error = seen.fixed.error
    assert error is not None
    at = [(replace(seen, difference=-loss), -verdict.tolerance) for loss in losses(verdict)]
    per_seed = 1 if verdict.is_paired else 2
    return Plan(
        level=level,
        seen=seen,
        spread=error * math.sqrt(seen.n),
        lasting=None if seen.samples is None else math.sqrt(seen.samples.lasting),
        seeds=tuple(seeds_needed(*one, per_seed=per_seed) for one in at),
        hindered=tuple(samples_hinder(*one, per_seed=per_seed) for one in at),
    )


def seeds_to_show(difference: Estimate, num_compared: int) -> int | None:
    """Computes the seeds that show a difference of 0, the first of so many comparisons.

    At the level that Holm's correction asks of the smallest p. None where no number of up to a
    thousand would do, or nothing tells how much seeds vary.
    """
    return seeds_needed(difference, 0.0, DIFFERENCE_LEVEL / max(1, num_compared))
