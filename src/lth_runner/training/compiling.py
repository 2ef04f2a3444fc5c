"""Trainings whose steps go through torch.compile."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn

from lth_runner.masking import Masking
from lth_runner.problem.objective import smoothed
from lth_runner.problem.task import Task
from lth_runner.training.network import autocast, fresh_network
from lth_runner.training.recipe import Recipe
from lth_runner.training.same_step import TrialStep, obstacle, refuse_another_step
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.memory import is_out_of_memory
from lth_runner.values.raised import first_line


def compiled(network: nn.Module) -> nn.Module:
    """Makes what runs a network through torch.compile; its tensors stay the network's own.

    Networks of one class and size are compiled once a process, and what was compiled is found on
    the disk by the next (TORCHINDUCTOR_CACHE_DIR).
    """
    found: Any = torch.compile(network)
    assert isinstance(found, nn.Module)
    return found


def check(recipe: Recipe, task: Task, masking: Masking) -> None:
    """Raises UserError where steps cannot be compiled, or would be others.

    A step of the dense network is taken both ways, on a whole batch.
    """
    reason = _obstacle(recipe, task, masking) or _difference(recipe, task)
    if reason is not None:
        raise UserError(f"train.compile=true: {reason}; leave it out")


def _obstacle(recipe: Recipe, task: Task, masking: Masking) -> str | None:
    if not masking.packs:
        does = "does more in a step than to train the network's own parameters"
        return f"{type(masking).__name__} {does}"
    return obstacle(recipe, task)


def _difference(recipe: Recipe, task: Task) -> str | None:
    module = fresh_network(task, recipe)
    states.write(module, task.init())
    size = min(recipe.micro_batch or recipe.batch_size, task.data.num_train)
    objective = smoothed(task.objective, recipe.label_smoothing)
    cast = functools.partial(autocast, recipe, task.device)
    step = TrialStep(objective, task.data.sample(size, 0), cast)
    try:
        refuse_another_step(module, compiled(module), step, {})
    except UserError as error:
        return str(error)
    except Exception as error:  # of a compiler, of which there are several, or a user's forward
        if is_out_of_memory(error):
            raise
        return f"torch.compile fails on this network: {first_line(error)}"
    return None
