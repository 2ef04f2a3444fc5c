"""What instruments have beside their lines: places of a list, levels and remarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lth_runner.runs.evidence.means import density, number
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.folder import Row
from lth_runner.runs.pages import wording as say
from lth_runner.runs.pages.lines import Reference

TOLERANCE = 0.02  # `probe.instability.tolerance` where the config does not say

# --- places of a list


def path(row: Row, length: int) -> Sequence[float]:
    """Places a list evenly from 0 to 1."""
    return [i / max(length - 1, 1) for i in range(length)]


def counted(row: Row, length: int) -> Sequence[float]:
    """Places a list at 1, 2, 3, and so on."""
    return range(1, length + 1)


def trajectory_steps(row: Row, length: int) -> Sequence[float]:
    """Places a list at the row's own trajectory steps."""
    steps = row.get("trajectory_steps")
    return steps if isinstance(steps, list) and len(steps) == length else range(1, length + 1)


# --- horizontal lines and notes


def at(value: float, name: str) -> Callable[[FinishedRun], Reference]:
    """Makes a horizontal line at a value."""
    return lambda run: Reference(value, name)


def stable_below(probe: str) -> Callable[[FinishedRun], Reference]:
    """Makes the line of a probe's tolerance, below which networks are stable."""

    def level(run: FinishedRun) -> Reference:
        tolerance = number(run.option("probe", probe, "tolerance")) or TOLERANCE
        name = f"{say.amount(run.measure, tolerance)}:\nstable below"
        return Reference(run.measure.scale * tolerance, name)

    return level


def guessing(run: FinishedRun) -> Reference | None:
    """Makes the line of what guessing reaches, where that is known."""
    chance = run.measure.chance
    return None if chance is None else Reference(run.measure.scale * chance, "guessing")


def random_distance(run: FinishedRun) -> Reference | None:
    """Makes the line of the distance that two random masks have."""
    sparsity = number(run.option("probe", "mask_distance", "sparsity"))
    return Reference(2 * sparsity * (1 - sparsity), "two random\nmasks") if sparsity else None


def vacuous(run: FinishedRun) -> str:
    """Says where the bounds say nothing, in a sentence for each."""
    said = []
    for name, bound in (("counting bound", "mdl_bound"), ("Occam bound", "occam_bound")):
        flags = [x for row in run.rows if (x := number(row.get(f"{bound}_vacuous"))) is not None]
        empty = sum(flag == 1 for flag in flags)
        if flags and empty == len(flags):
            said.append(f"The {name} is vacuous in every row here: it says nothing.")
        elif empty:
            said.append(f"The {name} is vacuous in {empty} of {len(flags)} rows.")
    return " ".join(said)


def stable_from(run: FinishedRun) -> str:
    """Says from which step on each seed is stable."""
    told = [
        f"{'no step tried' if step is None else f'step {step:g}'} (seed {row['seed']})"
        for row in run.rows
        if row["arm"] == TICKET and "stable_from_step" in row
        for step in [row["stable_from_step"]]
    ]
    return f"Stable from {say.joined(told)} on." if told else ""


def nested(run: FinishedRun) -> bool:
    """Whether every mask lies in that of the round before: then densities tell their overlap."""
    tickets = {(row["seed"], row["round"]): row for row in run.rows if row["arm"] == TICKET}
    for (seed, round), row in tickets.items():
        overlap, ours = number(row.get("mask_overlap_previous")), density(row)
        before = density(tickets.get((seed, round - 1), {}))
        if overlap is None or ours is None or not before:
            continue
        if abs(overlap - ours / before) >= 1e-4:
            return False
    return True
