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
    shares = (begin + (end - begin) * i / num for i in range(1, num + 1))
    return [max(1, round(share * total)) for share in shares]
