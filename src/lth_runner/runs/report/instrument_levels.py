"""What instruments have beside their lines: places of a list, scales, levels and remarks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lth_runner.runs.report.lines import Reference, Scale
from lth_runner.runs.report.rows import TICKET, FinishedRun, Row, density, number
from lth_runner.runs.report.wording import amount, axis, difference_unit, joined, label
from lth_runner.values.measure import Measure

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


# --- scales of the headline measure


def in_measure(measure: Measure) -> Scale:
    """Scales a field as the headline measure is shown."""
    return Scale(axis(measure, ""), factor=measure.scale)


def barrier(measure: Measure) -> Scale:
    """Scales a barrier, a difference of errors."""
    of = "points of error" if measure.unit == "%" else f"of {label(measure)}"
    return Scale(f"barrier ({of})", factor=measure.scale)


def barrier_by_step(measure: Measure) -> Scale:
    """Scales a barrier against the step at which two trainings part."""
    return Scale(barrier(measure).ylabel, "step at which they part", measure.scale)


def error_along(xlabel: str) -> Callable[[Measure], Scale]:
    """Scales the measure as an error, smaller is better, along a line."""

    def scale(measure: Measure) -> Scale:
        name = "error" if measure.better == "higher" else label(measure)
        unit = f" ({measure.unit})" if measure.unit else ""
        return Scale(f"{name}{unit}", xlabel, measure.scale)

    return scale


def gap(measure: Measure) -> Scale:
    """Scales a difference of the headline measure."""
    return Scale(
        f"gap ({difference_unit(measure).strip() or label(measure)})", factor=measure.scale
    )


# --- horizontal lines and notes


def at(value: float, name: str) -> Callable[[FinishedRun], Reference]:
    """Makes a horizontal line at a value."""
    return lambda run: Reference(value, name)


def stable_below(probe: str) -> Callable[[FinishedRun], Reference]:
    """Makes the line of a probe's tolerance, below which networks are stable."""

    def level(run: FinishedRun) -> Reference:
        tolerance = number(run.option("probe", probe, "tolerance")) or TOLERANCE
        name = f"{amount(run.measure, tolerance)}:\nstable below"
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
    steps = [(row["seed"], row["stable_from_step"]) for row in run.rows
             if row["arm"] == TICKET and "stable_from_step" in row]  # fmt: skip
    if not steps:
        return ""
    told = [f"{'no step tried' if step is None else f'step {step:g}'} (seed {seed})"
            for seed, step in steps]  # fmt: skip
    return f"Stable from {joined(told)} on."


def nested(run: FinishedRun) -> bool:
    """Whether every mask lies in that of the round before: then densities tell their overlap."""
    kept = {(row["seed"], row["round"]): density(row) for row in run.rows
            if row["arm"] == TICKET}  # fmt: skip
    pairs = [
        (number(row.get("mask_overlap_previous")), kept[row["seed"], row["round"]],
         kept.get((row["seed"], row["round"] - 1)))
        for row in run.rows
        if row["arm"] == TICKET
    ]  # fmt: skip
    known = [(overlap, ours, before) for overlap, ours, before in pairs
             if overlap is not None and ours is not None and before]  # fmt: skip
    return all(abs(overlap - ours / before) < 1e-4 for overlap, ours, before in known)
