"""The contents of ``problem.json``: how a run is measured, how much of its network is covered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lth_runner.problem.outcomes import sampled_unit
from lth_runner.problem.task import Task
from lth_runner.problem.unlearned import majority
from lth_runner.values import identity
from lth_runner.values.listed import listed


def problem_facts(task: Task) -> dict[str, Any]:
    """Lists what readers of a run must know of its problem, the headline measure first."""
    objective, origin = task.objective, task.origin
    chance = objective.chance(task.data.num_classes)
    measures = [replace(one, chance=chance.get(one.name)) for one in objective.measures]
    return {
        "objective": type(objective).__name__,
        "measures": [measure.facts() for measure in measures],
        "majority": majority(task) or None,
        "sampled": sampled_unit(task),
        "num_parameters": task.num_parameters,
        "num_prunable": task.dense().num_prunable,
        "passed_over": list(task.passed_over),
        "origin": None if origin is None else identity.describe(origin),
        "drawn": list(task.remainders.drawn),
        "left_out": list(task.remainders.unused),
        "coordinates": None if task.coordinates is None else type(task.coordinates).__name__,
        "identity": task.identity,
    }


def coverage(problem: Mapping[str, Any]) -> str:
    """Says which share of all parameters a mask covers, and names the large ones that it does not.

    ``passed_over`` are parameters of two axes or more; biases and normalisation go without saying.
    """
    prunable, total = problem["num_prunable"], problem["num_parameters"]
    names = problem["passed_over"]
    stay = "stay" if len(names) > 1 else "stays"
    dense = f"; {listed(names)} {stay} dense" if names else ""
    return f"{prunable} of {total} parameters ({100 * prunable / total:.3g} %){dense}"
