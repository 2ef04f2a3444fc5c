"""What a finished training does on the test split, evaluated once and kept beside it."""

from __future__ import annotations

from lth_runner.problem.outcomes import Outcomes, measure
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Trained


def final_outcomes(task: Task, trained: Trained) -> Outcomes:
    """Reads what was kept of the final evaluation, or makes it from the weights at the end."""
    found = trained.derived("tested", lambda: measure(task, trained.weights, "test").packed())
    return Outcomes.unpacked(found)
