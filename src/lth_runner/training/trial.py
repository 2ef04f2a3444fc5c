"""The trial of one training step, before the first training, of whatever a user has brought."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lth_runner.problem.answers import answer
from lth_runner.problem.objective import smoothed
from lth_runner.problem.task import Task
from lth_runner.training.network import autocast, recomputing
from lth_runner.training.recipe import Recipe, comes_with_torch
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import all_seeded

GENERATORS = (
    torch.Generator, numpy.random.Generator, numpy.random.RandomState, random.Random,
)  # fmt: skip


def try_a_step(task: Task, recipe: Recipe) -> None:
    """Raises UserError where the network, loss or optimizer cannot do one step, which is undone.

    By two samples, or one where a batch is of one: what a network cannot be normalised by shows,
    and so do an optimizer that wants other parameters, or keeps what no checkpoint holds, and a
    loss that is no number.
    """
    module = task.module()
    states.write(module, task.init())
    if odd := [n for n, p in module.named_parameters() if p.is_complex()]:
        raise UserError(
            f"the model's parameter {odd[0]} is of complex numbers, which have no order to prune "
            "or optimise by here: give its real and imaginary parts as two parameters"
        )
    optimizer = _optimizer(module, recipe)
    _check_parts_of_batches(module, recipe)
    if recipe.recompute and task.laws is not None:
        raise UserError(
            "train.recompute=true: what is computed again would be of other draws of the weights "
            "(coordinates=gaussian): leave it out; a smaller train.micro_batch takes less memory"
        )
    if recipe.recompute:
        recomputing(module)
    _differentiate(module, task, recipe)
    if recipe.engine == "sharded":
        _forget_large_gradients(module)
    _step(optimizer, task)


def _optimizer(module: nn.Module, recipe: Recipe) -> Optimizer:
    try:
        optimizer = recipe.make_optimizer([{"params": list(module.parameters())}])
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is no torch.optim.Optimizer")
    except Exception as error:  # a stranger's may raise anything
        raise UserError(
            f"train.optimizer cannot train this network: {_said(error)}: choose another, as by "
            "train=sgd"
        ) from error
    return optimizer


def _differentiate(module: nn.Module, task: Task, recipe: Recipe) -> None:
    num = min(2, recipe.batch_size, task.data.num_train)
    inputs, targets = task.data.sample(num, 0)
    try:
        with recipe.arithmetic(torch.device(task.device)):
            with all_seeded(0, task.device), autocast(recipe, task.device):
                outputs = answer(module.train(), inputs)
                loss = smoothed(task.objective, recipe.label_smoothing).loss(outputs, targets)
            loss.backward()
    except UserError:
        raise
    except Exception as error:
        _refuse_undetermined(error)
        of = f"a batch of {num} (train.batch_size={recipe.batch_size})"
        more = ": give train.batch_size=2 or more" if num == 1 else ""
        raise UserError(
            f"the model cannot be trained by {type(task.objective).__name__} on {of}: "
            f"{_said(error)}{more}"
        ) from error


def _step(optimizer: Optimizer, task: Task) -> None:
    before = _beside_its_state(optimizer)
    try:
        with all_seeded(1, task.device):
            optimizer.step()
    except Exception as error:
        raise UserError(
            f"train.optimizer={type(optimizer).__name__} cannot take a step of this training: "
            f"{_said(error)}: choose another, as by train=sgd"
        ) from error
    if not comes_with_torch(optimizer):
        _refuse_what_no_checkpoint_holds(optimizer, before)


def _forget_large_gradients(module: nn.Module) -> None:
    """Leaves the smallest gradient of each number of axes: no device may hold all moments."""
    by_size = sorted(module.parameters(), key=lambda parameter: parameter.numel())
    smallest = {p.ndim: p for p in reversed(by_size) if p.grad is not None}
    for parameter in by_size:
        if smallest.get(parameter.ndim) is not parameter:
            parameter.grad = None


def _refuse_undetermined(error: Exception) -> None:
    """Raises UserError where a layer cannot do the same twice, and is asked to."""
    if "torch.use_deterministic_algorithms" not in str(error):
        return
    raise UserError(
        f"train.deterministic=true: on this device the network has a layer whose step is not the "
        f"same twice: {_said(error)}: take another layer in its place, device=cpu, or "
        "train.deterministic=false"
    ) from error


def _check_parts_of_batches(module: nn.Module, recipe: Recipe) -> None:
    """Refuses to take a batch in parts where a network normalises by the whole of it."""
    by_batch = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if recipe.micro_batch is not None and by_batch:
        raise UserError(
            f"train.micro_batch={recipe.micro_batch}: the model normalises by the statistics of a "
            f"batch ({type(by_batch[0]).__name__}), and those of a part are others: leave it out, "
            "or take another model.norm"
        )


def _refuse_what_no_checkpoint_holds(optimizer: Optimizer, before: Mapping[str, Any]) -> None:
    name = f"train.optimizer={type(optimizer).__name__}"
    for key, value in vars(optimizer).items():
        if isinstance(value, GENERATORS):
            raise UserError(
                f"{name} has a generator of random numbers of its own ({key}), where no checkpoint "
                "holds how far it got: let it draw from the global streams of torch, numpy or "
                "Python's random, which are seeded for every step"
            )
    after = _beside_its_state(optimizer)
    if changed := [key for key in after if key not in before or after[key] != before[key]]:
        raise UserError(
            f"{name} changes {', '.join(changed)} in a step, which no checkpoint holds: keep it in "
            "its state, as self.state[parameter][name], which is stored, resumed and rewound"
        )


def _beside_its_state(optimizer: Optimizer) -> dict[str, Any]:
    """Finds the numbers that an optimizer holds elsewhere than in its state, but for its rates."""
    found = {
        f"param_groups[{index}][{key!r}]": value
        for index, group in enumerate(optimizer.param_groups)
        for key, value in group.items()
        if key not in ("params", "lr")
    }
    found |= {key: value for key, value in vars(optimizer).items() if not key.startswith("_")}
    plain = {key: value for key, value in found.items() if isinstance(value, (int, float, Tensor))}
    return {key: repr(value) for key, value in plain.items()}


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{lines[0] if lines else 'it says nothing'} ({type(error).__name__})"
