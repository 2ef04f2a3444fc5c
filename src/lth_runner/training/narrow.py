"""A network in training without the parts that its mask has cut off for good."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lth_runner.cutting import shrink_in_training
from lth_runner.cutting.in_training import NeverHeard
from lth_runner.cutting.stays import Stays
from lth_runner.masking import Masking
from lth_runner.problem.task import Task
from lth_runner.training.job import Job
from lth_runner.training.network import writes_beyond
from lth_runner.training.recipe import Recipe
from lth_runner.training.same_step import TrialStep, refuse_another_step
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.state import State

log = logging.getLogger(__name__)

SAMPLES = 8  # of a step that is tried, and of one that is compared


class Narrow(nn.Module):
    """Answers as a masked network does, by the parts of its tensors that are heard.

    Gradients arrive in the whole network's parameters, 0 for what was cut. Running statistics are
    of this module until ``push`` writes them into the whole network, those of what was cut staying
    as they are.
    """

    def __init__(self, whole: nn.Module, small: nn.Module, stays: Mapping[str, Stays]) -> None:
        super().__init__()
        self._whole = (whole,)  # a tuple: whose parameters are not this module's
        self._stays = dict(stays)
        self.small = small
        convolutions = [part for part in small.modules() if isinstance(part, nn.Conv2d)]
        self._contiguous = any(map(writes_beyond, convolutions))
        self._pull()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        parameters = {name: self._heard(name, p) for name, p in self._whole[0].named_parameters()}
        return functional_call(self.small, parameters, args, kwargs)

    def _heard(self, name: str, value: Tensor) -> Tensor:
        if name in self._stays:
            last = value.ndim == 4 and value.is_contiguous(memory_format=torch.channels_last)
            value = self._stays[name](value)
            if last and not self._contiguous:
                return value.contiguous(memory_format=torch.channels_last)
        return value.contiguous() if self._contiguous else value

    @torch.no_grad()
    def _pull(self) -> None:
        own = dict(self.small.named_buffers())
        for name, value in self._whole[0].named_buffers():
            own[name].copy_(self._stays.get(name, Stays())(value))

    @torch.no_grad()
    def push(self) -> None:
        """Writes the running statistics of what is heard into the whole network."""
        own = dict(self.small.named_buffers())
        for name, value in self._whole[0].named_buffers():
            if name in self._stays:
                places = torch.arange(value.numel(), device=value.device).reshape(value.shape)
                value.view(-1)[self._stays[name](places).reshape(-1)] = own[name].reshape(-1)
            else:
                value.copy_(own[name])


def check(recipe: Recipe, task: Task, masking: Masking) -> None:
    """Raises UserError where trainings cannot leave out what their masks have cut off."""
    reason = _obstacle(recipe, task, masking)
    if reason is not None:
        raise UserError(f"train.cut_dead=true: {reason}; leave it out")
    _found(task, task.dense(), task.init(), has_moments=False)


def _obstacle(recipe: Recipe, task: Task, masking: Masking) -> str | None:
    if recipe.engine not in ("auto", "sequential"):
        return f"it is for train.engine=sequential, and this run has {recipe.engine}"
    if not masking.still:
        return f"{type(masking).__name__} moves the mask in a training, and with it what is dead"
    if task.coordinates is not None:
        kind = type(task.coordinates).__name__
        return f"what is trained are other numbers than weights ({kind}), and 0 there removes none"
    if task.is_random:
        return "the network draws random numbers (dropout), and a narrower one draws others"
    return None


def narrowed(job: Job, whole: nn.Module) -> Narrow | None:
    """Makes what is trained in a network's place; None where nothing of it is dead for good.

    It follows from the job alone, so that a training which goes on goes on with the same.
    """
    ticket, slot = job.ticket, job.slot
    if all(bool(kept.all()) for kept in ticket.mask.values()):
        return None
    where = f"round {slot.round}, {slot.arm}, seed {job.task.seed}"
    try:
        found = _found(job.task, ticket.mask, ticket.masked,
                       has_moments=ticket.start.has_optimizer)  # fmt: skip
    except UserError as error:
        log.warning("cut      %s: nothing: %s", where, error)
        return None
    shrunk = found.shrunk
    if not found.stays:
        return None
    old, new = (f"{num:,}" for num in shrunk.num_parameters)
    log.info("cut      %s: layers that are narrower: %d, parameters: %s of %s",
             where, len(shrunk.widths), new, old)  # fmt: skip
    return Narrow(whole, shrunk.module, found.stays)


def _found(
    task: Task, mask: Mapping[str, Tensor], weights: State, *, has_moments: bool
) -> NeverHeard:
    """Finds what is dead for good, and tries a step without it, with its values and others."""
    module = task.module()
    states.write(module, weights)
    batch = task.data.sample(min(SAMPLES, task.data.num_train), 0)
    step = TrialStep(task.objective, batch)
    found = shrink_in_training(
        module, mask, batch[0], step, seed=task.seed, has_moments=has_moments
    )  # fmt: skip
    if found.stays:
        for values in (None, weights):  # those drawn, then its own
            if values is not None:
                states.write(module, values)
            narrow = Narrow(module, found.shrunk.module, found.stays)
            refuse_another_step(module, narrow, step, mask)
    return found
