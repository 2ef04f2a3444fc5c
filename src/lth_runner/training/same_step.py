"""Whether two ways to compute a network's step are one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lth_runner.problem.answers import answer
from lth_runner.problem.objective import Objective
from lth_runner.problem.task import Task
from lth_runner.training.recipe import Recipe
from lth_runner.values.errors import UserError
from lth_runner.values.tree import Batch, each

TOLERANCE = 1e-3  # of the largest gradient of a tensor
ROUNDINGS = 8  # as many times the whole network's own error of rounding beside it
SMALLEST = 1e-6
LOSS = "the loss"


@dataclass(frozen=True)
class TrialStep:
    """Called with a network, gives its loss on a batch; ``cast``: the precision it computes in."""

    objective: Objective
    batch: Batch
    cast: Callable[[], AbstractContextManager[object]] = nullcontext

    def __call__(self, network: nn.Module) -> Tensor:
        inputs, targets = self.batch
        with self.cast():
            return self.objective.loss(answer(network, inputs), targets)

    def in_double(self) -> TrialStep:
        """Returns the same step in double precision."""
        inputs, targets = (each(_doubled, part) for part in self.batch)
        return replace(self, batch=(inputs, targets), cast=nullcontext)


def obstacle(recipe: Recipe, task: Task) -> str | None:
    """Says what stands in the way of computing the steps otherwise, in whatever way."""
    if recipe.engine not in ("auto", "sequential"):
        return f"it is for train.engine=sequential, and this run has {recipe.engine}"
    if task.coordinates is not None:
        kind = type(task.coordinates).__name__
        return f"what is trained are other numbers than the network's own weights ({kind})"
    if task.is_random:
        return "the network draws random numbers (dropout), and computed otherwise it draws others"
    return None


def refuse_another_step(
    module: nn.Module, other: nn.Module, step: TrialStep, mask: Mapping[str, Tensor]
) -> None:
    """Raises UserError where ``other`` has another loss, or gives ``module`` other gradients.

    Both run in training mode. How far they may be apart goes by how far ``module`` is from its own
    step in double precision. The gradients of removed weights may differ, which no kept one
    depends on.
    """
    whole, own = _taken(module, module, step, mask), _taken(module, other, step, mask)
    try:
        precise = copy.deepcopy(module).double()
        exact = _taken(precise, precise, step.in_double(), mask)
    except Exception:  # whatever a user's own forward raises where it meets another type
        exact = {}
    for name, expected in whole.items():
        rounding = _apart(expected, exact[name]) if name in exact else 0.0
        allowed = TOLERANCE * float(expected.abs().max()) + ROUNDINGS * rounding + SMALLEST
        away = _apart(expected, own[name]) if name in own else float("inf")
        if not away <= allowed:
            what = name if name == LOSS else f"the gradient of {name}"
            raise UserError(f"{what} differs by {away:.1e} in a step")


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).abs().max())


def _doubled(value: Tensor) -> Tensor:
    return value.double() if value.is_floating_point() else value


def _taken(
    module: nn.Module, network: nn.Module, step: TrialStep, mask: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Gives the loss of a network, and the gradients that a module gets by it."""
    module.zero_grad()
    with torch.enable_grad():
        value = step(network.train())
        value.backward()
    found = {LOSS: value.detach()}
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            kept = mask[name].to(parameter.device) if name in mask else 1
            found[name] = parameter.grad * kept
    module.zero_grad()
    return found
