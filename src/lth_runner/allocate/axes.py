"""Which axis of a weight its inputs and outputs are on, where a budget goes by them."""

from __future__ import annotations

from collections.abc import Sequence

from lth_runner.problem.covers import TRANSPOSED
from lth_runner.problem.requirements import check_kinds
from lth_runner.problem.task import Task
from lth_runner.values.errors import UserError
from lth_runner.values.name_patterns import select

WITH_AXES = ("linear", "convolution", "recurrent", "attention_projection")  # (out, in, ...)


def check_axes(
    task: Task, exclude: Sequence[str], transposed: Sequence[str], *, scope: str, what: str
) -> None:
    """Raises UserError for layers whose outputs are on another axis than is said.

    ``transposed``: patterns of the layers whose weight is (in, out). All those must be named, and
    no others; those of ``exclude`` are not looked at. ``what`` the budget of this ``scope`` does.
    """
    key = f"pruner.budgets.{scope}.transposed"
    spared = select(exclude, task.prunable, "pruner.exclude")
    turned = select(transposed, task.prunable, key)
    names = [name for name in task.prunable if name not in spared]
    for name in names:
        if (task.kind(name) == TRANSPOSED) != (name in turned):
            outputs = "second" if task.kind(name) == TRANSPOSED else "first"
            raise UserError(
                f"pruner.scope={scope} {what}, and {name} has its outputs on the {outputs} axis: "
                f"set {key} to patterns of all layers with (in, out), and no others: ['*'] where "
                "all are"
            )
    said = f"pruner.scope={scope} {what} of a weight (out, in, ...)"
    check_kinds(task, names, (*WITH_AXES, TRANSPOSED), said)
