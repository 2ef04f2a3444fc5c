"""The steps at which a masking reaches the densities of its schedule within a training."""

from __future__ import annotations

from lth_runner.values.errors import UserError
from lth_runner.values.steps import Step


def check_stretch(begin: float, end: float) -> None:
    """Raises UserError unless 0 <= ``begin`` <= ``end`` <= 1, shares of the training."""
    if not 0 <= begin <= end <= 1:
        raise UserError(
            f"pruner.begin={begin} and pruner.end={end} are shares of the training: "
            "0 <= begin <= end <= 1"
        )


def due_steps(begin: float, end: float, num: int, total: Step) -> list[Step]:
    """Spaces ``num`` densities evenly: the i-th after the share begin + (end - begin) i / num.

    None is due before the first step.
    """
    return [due_step(begin, end, i, num, total) for i in range(1, num + 1)]


def due_step(begin: float, end: float, number: int, num: int, total: Step) -> Step:
    """Finds the step at which one of ``num`` densities is due, the first being number 1."""
    return max(1, round((begin + (end - begin) * number / num) * total))
