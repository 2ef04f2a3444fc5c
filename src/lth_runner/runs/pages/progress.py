"""What becomes of runs, beside their verdicts: not finished, without a ticket, never begun."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lth_runner.runs.evidence.means import number
from lth_runner.runs.evidence.refused import refused_points
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.folder import DIVERGED, DONE


def progress(run: FinishedRun) -> str:
    """Says what the reader must know of a run that is not finished, or found no ticket."""
    if run.state == DONE:
        return _no_ticket(run)
    if run.state == DIVERGED:
        return (
            "This run has ended (state: diverged): a ticket whose loss became NaN or infinite has "
            "no later rounds. A lower train.optimizer.lr, or train.clip_norm, may keep it finite."
        )
    round, rounds = run.status.get("round"), run.status.get("rounds")
    where = ""
    if round is not None and isinstance(rounds, int):
        where = f", round {round} of {rounds - 1}"  # as lth-run and lth-status count
    text = f"This run is not finished (state: {run.state}{where}); shown is what it has so far."
    error = run.status.get("error")
    return f"{text} Its error: {error}" if error else text


def _no_ticket(run: FinishedRun) -> str:
    if not run.rows or any(row.get("sparsity") for row in run.rows):
        return ""
    text = f"This run has ended with the dense network alone: {run.pruner} found no ticket."
    if (distance := number(run.option("pruner", "distance"))) is None:
        return text
    return (
        f"{text} Its masks never stood still: no row of them was within pruner.distance={distance} "
        "of each other; a larger one, or more of the training, may find one."
    )


def refusals(runs: Sequence[FinishedRun]) -> tuple[str, ...]:
    """Says why points of the runs' sweeps have no run, in a sentence for each cause."""
    return tuple(
        f"No run of {'; '.join(sorted(points))}: {cause}."
        for cause, points in refused_points(runs).items()
    )


def states(runs: Sequence[FinishedRun]) -> str:
    """Counts runs by their state: '3 done, 1 running'."""
    counts = sorted(Counter(run.state for run in runs).items())
    return ", ".join(f"{num} {state}" for state, num in counts)
