"""A training that several ranks do together, as each of them has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from lth_runner.problem.answers import answered_in_pieces
from lth_runner.problem.coordinates import constants
from lth_runner.problem.data.dataset import part_of
from lth_runner.problem.gaussian import Gaussian
from lth_runner.problem.objective import Objective
from lth_runner.store.checkpoint import Checkpoint
from lth_runner.training import moments
from lth_runner.training.engines.distributed.batch_norm import Synchronised
from lth_runner.training.engines.distributed.collectives import (
    severed_within,
    summed,
    summed_number,
    widest,
)
from lth_runner.training.engines.distributed.gradients import SummedGradients
from lth_runner.training.engines.distributed.sharded import (
    InStep,
    OverRanks,
    Scattered,
    check_runs,
    network,
)
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.recipe import Recipe
from lth_runner.values import state as states
from lth_runner.values.ranks import Rank
from lth_runner.values.shards import whole
from lth_runner.values.tree import Batch


@dataclass(frozen=True)
class Standing:
    """What must be the same on all ranks once a training is done.

    No weights where each rank holds others; ``way``: of its gradients (``Gradients.way``).
    """

    step: int
    way: int
    mask: str
    weights: str


class Gradients(Protocol):
    """Adds gradients up over the ranks."""

    @property
    def way(self) -> int:
        """Hashes how they came about, where that must be the same way on all ranks."""

    def expect(self) -> None:
        """Waits for the gradients of the step's last backward pass, which begins."""

    def finish(self) -> None:
        """Has the sums in the gradients' places."""

    def remove(self) -> None:
        """Leaves the network alone."""


Measure = Callable[[nn.Module, Iterable[Iterable[Batch]], Objective], list[list[Tensor]]]


def begun(
    job: Job,
    recipe: Recipe,
    checkpoint: Checkpoint | None,
    rank: Rank,
    group: Any,
    *,
    is_sharded: bool,
) -> SharedTraining:
    """Makes a training of which each rank has the whole network, or a part of it.

    ``group``: connections that the gradients of whole networks go through.
    """
    with severed_within():
        if is_sharded:
            return _sharded(job, recipe, checkpoint, rank)
        return _replicated(job, recipe, checkpoint, rank, group)


def _replicated(
    job: Job, recipe: Recipe, checkpoint: Checkpoint | None, rank: Rank, group: Any
) -> SharedTraining:
    laws = job.task.laws
    # a draw of weights is one for all ranks; of activations, as of dropout, each has its own
    alike = isinstance(laws, Gaussian) and not laws.local_reparameterisation
    loop = Loop(job, recipe, checkpoint, rank=0 if alike else rank.number)
    gradients = SummedGradients(loop.parameters, group)
    return SharedTraining(loop, rank, gradients, answered_in_pieces)


def _sharded(job: Job, recipe: Recipe, checkpoint: Checkpoint | None, rank: Rank) -> SharedTraining:
    task = job.task
    model = network(task, recipe)
    spread = OverRanks(rank, task.device)
    loop = Loop(job, recipe, checkpoint, model=model, rank=rank.number, spread=spread)
    spare = task.data.sample(1, 0)
    check_runs(model, spare)
    in_step = InStep(spare, task.device)
    gradients = Scattered(model, loop.parameters)
    largest, most = -(-recipe.batch_size // rank.num), recipe.micro_batch
    num_passes = 1 if most is None else -(-largest // most)  # of who has the most samples
    return SharedTraining(loop, rank, gradients, in_step, is_whole=False, num_passes=num_passes)


class SharedTraining:
    """One rank's share of a training: the network or its part of it, and a part of every batch.

    What a mask or an optimizer does after the backward pass it does on each rank, by the same
    gradients and the same seeds.
    """

    def __init__(
        self,
        loop: Loop,
        rank: Rank,
        gradients: Gradients,
        measure: Measure,
        *,
        is_whole: bool = True,
        num_passes: int = 1,
    ) -> None:
        self.loop, self._is_whole, self._num_passes = loop, is_whole, num_passes
        job, recipe = loop.job, loop.recipe
        _ = job.task.is_random  # found by a step of each rank's own, of which no sum is to be
        self._rank, (begin, end) = rank, rank.share(recipe.batch_size)
        self._share = (end - begin) / recipe.batch_size
        self._batches = self.loop.awaited = part_of(self.loop.stream, begin, end)
        self._gradients, self._measure = gradients, measure
        norms = [m for m in self.loop.model.modules() if isinstance(m, _BatchNorm)]
        own = any(norms) or not job.task.is_shipped  # a user's own may call F.batch_norm too
        is_synchronised = recipe.sync_batch_norm and own
        self._normalised: AbstractContextManager[object] = (
            Synchronised(loop.model) if is_synchronised else nullcontext()
        )
        equal = {id(b) for norm in norms for b in norm.buffers()} if is_synchronised else ()
        fixed = {id(b) for b in constants(self.loop.model).values()}  # as what deltas are added to
        self._buffers = [
            b
            for b in self.loop.model.buffers()
            if b.is_floating_point() and id(b) not in fixed.union(equal)
        ]

    def advance(self) -> None:
        """Takes one step, together with all other ranks."""
        loop = self.loop
        batch = self._batches[loop.step]
        terms = summed_number(loop.objective.weight(batch[1]), loop.loss.device)
        before, loop.loss = loop.loss, torch.zeros_like(loop.loss)
        with severed_within(), self._normalised:
            loop.differentiate(
                batch,
                terms=terms,
                penalised=self._rank.is_first,
                num_passes=self._num_passes,
                before_last=self._gradients.expect,
            )
        self._gradients.finish()
        loop.loss = before + summed(loop.loss)
        loop.num_losses += 1
        self._average_buffers()
        with severed_within():
            loop.update()

    @torch.no_grad()
    def _average_buffers(self) -> None:
        """Makes what a step has changed beside the weights, running means, one for all ranks."""
        for buffer in self._buffers:
            # in the longest numbers, in which one that is the same on all ranks comes out as it was
            buffer.copy_(summed(buffer.to(widest(buffer.device)) * self._share))

    def evaluate(self, split: str) -> list[list[Tensor]]:
        """Gives what this rank's batches of a split add to its figures."""
        loop, task = self.loop, self.loop.job.task
        loop.forget_gradients()
        batches = task.evaluated_by(self._rank, split)
        with severed_within():
            return self._measure(loop.model, batches, task.objective)

    def standing(self) -> Standing:
        """Hashes the mask and the weights."""
        mask = self.loop.live.mask()
        weights = states.fingerprint(self.loop.weights()) if self._is_whole else ""
        return Standing(self.loop.step, self._gradients.way, mask.fingerprint, weights)

    def gather_weights(self) -> None:
        """Gives this rank's part of the weights to rank 0, which reads them."""
        with severed_within():
            for _, value in states.named_tensors(self.loop.model):
                whole(value.detach())

    def gather_moments(self) -> None:
        """Gives this rank's part of the optimizer's moments to rank 0, which reads them."""
        with severed_within():
            moments.gather(self.loop.optimizer)

    def close(self) -> None:
        """Leaves the network as it would be without other ranks."""
        self._gradients.remove()
