"""The global random streams that a step may draw from, seeded for that step."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch.optim import Optimizer

from lth_runner.training.job import Job
from lth_runner.training.recipe import comes_with_torch
from lth_runner.values.global_streams import TORCH, all_seeded, torch_seeded
from lth_runner.values.seeds import derive
from lth_runner.values.steps import Step


def forward_seed(job: Job, step: Step, rank: int = 0) -> int:
    """Gives the seed of a step's forward pass, another on each rank that takes a part of it."""
    own = ("rank", rank) if rank else ()
    return derive(job.task.seed, "forward", job.ticket.start.order, step, *own)


def of_forward(job: Job, step: Step, rank: int = 0) -> AbstractContextManager[None]:
    """Seeds the streams that dropout and the like draw from, where the network does."""
    task = job.task
    if not task.is_random:
        return nullcontext()
    seed = forward_seed(job, step, rank)
    if task.drawn_from == {TORCH}:
        return torch_seeded(seed, task.device)
    return all_seeded(seed, task.device)


def of_optimizer(job: Job, step: Step, optimizer: Optimizer) -> AbstractContextManager[None]:
    """Seeds the streams that an optimizer of one's own may draw from."""
    if comes_with_torch(optimizer):
        return nullcontext()
    task, start = job.task, job.ticket.start
    return all_seeded(derive(task.seed, "optimizer", start.order, step), task.device)
