"""What probes measure with: inputs that are the same throughout a replicate, and its dense run."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from lth_runner.problem.requirements import input_shape
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Trained
from lth_runner.values import tree
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import derive
from lth_runner.values.tree import Batch

MOST = 1_000_000  # inputs, draws, steps of one measurement


def sample(task: Task, num_inputs: int) -> Batch:
    """Draws ``num_inputs`` training inputs with labels, or all there are; not augmented."""
    num = min(num_inputs, task.data.num_train)
    return task.data.sample(num, derive(task.seed, "probe", "inputs"))


def sample_numbers(task: Task, num_inputs: int, what: str) -> Tensor:
    """Draws as ``sample`` does, inputs that are plain numbers; raises UserError for others."""
    input_shape(task, what)
    inputs = sample(task, num_inputs)[0]
    assert isinstance(inputs, Tensor)
    return inputs


def first_tested(task: Task, num: int) -> Iterator[Batch]:
    """Goes through the first ``num`` test samples, in batches that a network takes at once."""
    left = num
    for batch in task.evaluated("test", num):
        inputs, targets = (tree.split(part, left)[0] for part in batch)
        yield inputs, targets
        left -= tree.length(targets)
        if not left:
            return


def dense_training(past: Past, trained: Trained) -> Trained | None:
    """Finds the replicate's dense training; None where the search prunes before its first one."""
    first = past[0] if past else trained
    whole = first.ticket.mask.num_kept == first.ticket.mask.num_prunable
    return first if whole else None


def check_count(key: str, value: int) -> None:
    """Raises UserError for an option that is no whole number from 1 to ``MOST``."""
    if isinstance(value, bool) or not isinstance(value, int) or not (1 <= value <= MOST):
        raise UserError(
            f"probe.{key}={value!r} must be a whole number of at least 1, at most {MOST}"
        )
