"""The gradient of a loss in a network's parameters: of a batch in parts, or of several batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lth_runner.problem.objective import Objective
from lth_runner.values.state import State
from lth_runner.values.tree import Batch


def parameter_gradient(
    loss: Callable[[Batch], Tensor],
    parameters: State,
    parts: Sequence[Batch],
    objective: Objective,
) -> State:
    """Computes the gradient of a batch's mean loss, by parameter, one part after the other.

    Each part counts by what its mean is over: its labels, its tokens. The parameters require
    gradients; one that the loss does not depend on has a gradient of zero.
    """
    counts = [objective.weight(targets) for _, targets in parts]
    total: State = {}
    for part, count in zip(parts, counts, strict=True):
        value = loss(part)
        if len(parts) > 1:
            value = value * (count / (sum(counts) or 1))
        found = torch.autograd.grad(
            value, list(parameters.values()), allow_unused=True, materialize_grads=True
        )
        for name, gradient in zip(parameters, found, strict=True):
            total[name] = total[name].add_(gradient) if name in total else gradient
    return {name: value.cpu() for name, value in total.items()}


def averaged_gradient(
    gradient: Callable[[Batch], State], batches: Sequence[Batch], objective: Objective
) -> State:
    """Averages the gradients of batches, each counted by what its mean loss is over."""
    total: State = {}
    counts = [objective.weight(targets) for _, targets in batches]
    for batch, count in zip(batches, counts, strict=True):
        share = count * len(batches) / (sum(counts) or 1)
        total = {n: total[n] + share * g if n in total else share * g
                 for n, g in gradient(batch).items()}  # fmt: skip
    return {name: value / len(batches) for name, value in total.items()}
