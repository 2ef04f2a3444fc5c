"""How many seeds an experiment would need, planned from the variance of the seeds it has."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from lth_runner.runs.evidence.estimate import DIFFERENCE_LEVEL, Estimate
from lth_runner.runs.evidence.means import even_places
from lth_runner.runs.evidence.needed import seeds_needed
from lth_runner.runs.evidence.rows import TICKET
from lth_runner.runs.evidence.verdict import Level, Verdict

SHARES = (0.0, 0.5)  # of the tolerance, that a ticket is taken to lose in truth
MOST_ROUNDS = 8


@dataclass(frozen=True)
class Plan:
    """The seeds of each arm that show a round's match, for each loss it may truly have.

    `spread`: the standard deviation of a difference of one seed each. `seeds`: None where no
    number of up to a thousand would do.
    """

    level: Level
    seen: Estimate
    spread: float
    seeds: tuple[int | None, ...]


def losses(verdict: Verdict) -> tuple[float, ...]:
    """Lists the losses that are planned for: none, and half the tolerance."""
    return tuple(share * verdict.tolerance for share in SHARES)


def plan(verdict: Verdict) -> tuple[Plan, ...]:
    """Plans for the rounds from the sparsest shown match to the first refuted one, eight at most.

    n >= sd^2 (t_{1-level} + t_{power})^2 / (tolerance - loss)^2, power 80 %, by the rule that also
    says how many seeds would decide what is undecided. Empty where nothing tells how much seeds
    vary, or to match shows nothing.
    """
    levels = [one for one in verdict.of(TICKET) if one.matches is not None]
    shown = verdict.shown()
    first = levels.index(shown) if shown else 0
    end = next((i for i, one in enumerate(levels) if i >= first and one.matches == "refuted"),
               len(levels) - 1)  # fmt: skip
    near = levels[first : end + 1]
    return tuple(
        Plan(
            level=one,
            seen=seen,
            spread=seen.error * math.sqrt(seen.n),
            seeds=tuple(_seeds(seen, loss, verdict) for loss in losses(verdict)),
        )
        for one in (near[place] for place in even_places(len(near), MOST_ROUNDS))
        if (seen := one.against_dense) is not None and seen.error is not None
    )


def seeds_to_show(difference: Estimate, num_compared: int) -> int | None:
    """Computes the seeds that show a difference of 0, the first of so many comparisons.

    At the level that Holm's correction asks of the smallest p. None where no number of up to a
    thousand would do, or nothing tells how much seeds vary.
    """
    return seeds_needed(difference, 0.0, DIFFERENCE_LEVEL / max(1, num_compared))


def _seeds(seen: Estimate, loss: float, verdict: Verdict) -> int | None:
    per_seed = 1 if verdict.is_paired else 2
    return seeds_needed(replace(seen, difference=-loss), -verdict.tolerance, per_seed=per_seed)
