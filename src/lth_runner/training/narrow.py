"""A network in training without the parts that its mask has cut off for good."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from lth_runner.cutting import shrink_in_training
from lth_runner.cutting.in_training import NeverHeard
from lth_runner.cutting.plain import additions
from lth_runner.cutting.stays import Stays
from lth_runner.masking import Masking
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Start
from lth_runner.training.job import Job
from lth_runner.training.network import writes_beyond
from lth_runner.training.optimizers import looks_further, passes_zero
from lth_runner.training.recipe import Recipe
from lth_runner.training.same_step import TrialStep, obstacle, refuse_another_step
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.listed import listed
from lth_runner.values.memory import is_out_of_memory
from lth_runner.values.raised import first_line
from lth_runner.values.state import State

log = logging.getLogger(__name__)

MULTIPLE = 8  # of places stays of each axis: others are slower than more of them
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
        held = dict([*whole.named_parameters(), *whole.named_buffers()])
        self._stays = {name: one.on(held[name].device) for name, one in stays.items()}
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
                whole = value.flatten()
                whole[self._stays[name](places).flatten()] = own[name].flatten()
                value.copy_(whole.view(value.shape))
            else:
                value.copy_(own[name])


def check(recipe: Recipe, task: Task, masking: Masking) -> None:
    """Raises UserError where trainings cannot leave out what their masks have cut off."""
    reason = _obstacle(recipe, task, masking)
    if reason is not None:
        raise UserError(f"train.cut_dead=true: {reason}; leave it out")
    try:
        _found(task, task.dense(), task.init(), _all)
    except UserError as error:
        raise UserError(f"train.cut_dead=true: {error}; leave it out") from error


def _obstacle(recipe: Recipe, task: Task, masking: Masking) -> str | None:
    if not masking.still:
        return f"{type(masking).__name__} moves the mask in a training, and with it what is dead"
    if reason := obstacle(recipe, task):
        return reason
    if hooked := list(additions(task.module())):
        return f"a smaller network has not the hooks or parametrisations of {listed(hooked)}"
    if recipe.recompute:
        return "train.recompute=true computes activations again when the smaller weights are gone"
    optimizer = _trial_optimizer(recipe)
    if looks_further(optimizer):
        return f"{type(optimizer).__name__} may look at a whole tensor, removed weights included"
    return None


def _trial_optimizer(recipe: Recipe) -> Optimizer:
    """Makes the optimizer over a vector and a matrix of one number each."""
    return recipe.make_optimizer([{"params": [nn.Parameter(torch.zeros([1] * n)) for n in (1, 2)]}])


def narrowed(job: Job, recipe: Recipe, whole: nn.Module) -> Narrow | None:
    """Makes what is trained in a network's place; None where nothing of it is dead for good.

    It follows from the job alone, so that a training which goes on goes on with the same.
    """
    ticket, slot = job.ticket, job.slot
    if all(bool(kept.all()) for kept in ticket.mask.values()):
        return None
    where = f"round {slot.round}, {slot.arm}, seed {job.task.seed}"
    try:
        found = _found(job.task, ticket.mask, ticket.masked, _settles(recipe, ticket.start))
    except UserError as error:
        log.warning("cut      %s: trained whole: %s", where, error)
        return None
    shrunk = found.shrunk
    if not found.stays:
        return None
    old, new = (f"{num:,}" for num in shrunk.num_parameters)
    log.info("cut      %s: layers that are narrower: %d, parameters: %s of %s",
             where, len(shrunk.widths), new, old)  # fmt: skip
    return Narrow(whole, shrunk.module, found.stays)


def _settles(recipe: Recipe, start: Start) -> Callable[[Tensor], Tensor]:
    """Tells which values the optimizer leaves, or takes towards 0, while no gradient comes."""
    if start.has_optimizer:
        return _none
    return _zeros if passes_zero(_trial_optimizer(recipe)) else _all


def _none(values: Tensor) -> Tensor:
    return torch.zeros_like(values, dtype=torch.bool)


def _zeros(values: Tensor) -> Tensor:
    return values == 0


def _all(values: Tensor) -> Tensor:
    return torch.ones_like(values, dtype=torch.bool)


def _found(
    task: Task,
    mask: Mapping[str, Tensor],
    weights: State,
    settles: Callable[[Tensor], Tensor],
) -> NeverHeard:
    """Finds what is dead for good, and tries a step without it, with its values and others.

    Raises UserError where the network cannot be shrunk, or a step fails or differs.
    """
    module = task.module()
    states.write(module, weights)
    batch = task.data.sample(min(SAMPLES, task.data.num_train), 0)
    step = TrialStep(task.objective, batch)
    try:
        found = shrink_in_training(
            module, mask, batch[0], step, settles=settles, seed=task.seed, multiple=MULTIPLE
        )
        for values in (None, weights) if found.stays else ():  # those drawn, then its own
            if values is not None:
                states.write(module, values)
            narrow = Narrow(module, found.shrunk.module, found.stays)
            refuse_another_step(module, narrow, step, mask)
    except Exception as error:  # of a forward that may be anyone's
        if isinstance(error, UserError) or is_out_of_memory(error):
            raise
        raise UserError(f"a step without what is dead fails: {first_line(error)}") from error
    return found
