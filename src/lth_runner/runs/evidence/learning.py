"""How trainings learn: their means by step, and how soon a ticket's loss is lowest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from lth_runner.runs.evidence.estimate import (
    DIFFERENCE_LEVEL,
    Estimate,
    Word,
    decide,
    sample,
    two_sample,
)
from lth_runner.runs.evidence.judge import Held, ruling
from lth_runner.runs.evidence.means import Points, mean, number
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.runs.folder import Row


def step_means(rows: Iterable[Row], field: str) -> dict[tuple[str, int], Points]:
    """Averages over seeds: (arm, round) -> (step, mean, no band).

    A step written twice counts once, the later one. A step at which some seed was not measured is
    left out: its mean would be of other seeds than that before.
    """
    latest: dict[tuple[str, int], dict[int, dict[int, float]]] = {}
    left_out = set()
    for row in rows:
        value, step, round = number(row.get(field)), row.get("step"), row.get("round")
        if not isinstance(step, int) or not isinstance(round, int):
            continue
        key = row.get("arm", TICKET), round
        if field not in row:
            left_out.add((key, step))
        elif value is not None:
            latest.setdefault(key, {}).setdefault(step, {})[row.get("seed", 0)] = value
    series = {
        key: [
            (step, mean(seeds.values()), 0.0)
            for step, seeds in sorted(steps.items())
            if (key, step) not in left_out
        ]
        for key, steps in latest.items()
    }
    return {key: points for key, points in series.items() if points}


@dataclass(frozen=True)
class Soonness:
    """The steps at which the validation loss is lowest: the sparsest match's, and dense ones.

    ``difference``: the ticket's less the dense network's. ``ticket_falls``, ``dense_falls``:
    whether some training's loss was lowest at its last step, which then tells when it ended.
    """

    ticket: Level
    ours: float
    theirs: float
    difference: Estimate
    ticket_falls: bool
    dense_falls: bool

    @property
    def is_sooner(self) -> Word:
        """Whether the ticket's loss is lowest sooner."""
        return decide(-self.difference, 0.0, DIFFERENCE_LEVEL)


def soonness(run: FinishedRun, verdict: Verdict) -> Soonness | None:
    """Compares the marked ticket's lowest validation loss with the dense network's, by its step.

    None of trainings that have none, diverged or learned nothing.
    """
    best = verdict.marked()
    if best is None or run.dense_round is None:
        return None
    rounds = (best.round, run.dense_round)
    ticket, dense = (run.values(TICKET, round, "best_val_step") for round in rounds)
    if not ticket or not dense:
        return None
    pair = two_sample(*(sample(list(of.values())) for of in (ticket, dense)))
    if ruling(Held(best, verdict.dense, -pair), as_good=True) != "open":
        return None
    ours, theirs = (mean(of.values()) for of in (ticket, dense))
    return Soonness(best, ours, theirs, pair, *(_still_falls(run, round) for round in rounds))


def _still_falls(run: FinishedRun, round: int) -> bool:
    """Returns whether a training's validation loss was lowest at its last step."""
    best, steps = (run.values(TICKET, round, field) for field in ("best_val_step", "steps"))
    starts = run.values(TICKET, round, "start_step")
    return any(
        seed in steps and step >= starts.get(seed, 0) + steps[seed] for seed, step in best.items()
    )
