"""What rank 0 has the others do, each order a value that is sent and then called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from lth_runner.masking import Masking
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Start, Ticket
from lth_runner.store.checkpoint import Checkpoint
from lth_runner.training.engines.distributed.collectives import connect
from lth_runner.training.engines.distributed.lines import Follower
from lth_runner.training.engines.distributed.shared_training import (
    SharedTraining,
    Standing,
    begun,
)
from lth_runner.training.engines.distributed.telling import End
from lth_runner.training.job import Job
from lth_runner.training.network import are_finite_here
from lth_runner.training.recipe import Recipe
from lth_runner.values.errors import RankLost
from lth_runner.values.mask import Mask
from lth_runner.values.state import State


@dataclass
class Served:
    """What a rank that is not the first has at hand when it carries out an order."""

    follower: Follower
    trainings: dict[int, SharedTraining] = field(default_factory=dict)
    lasting: ExitStack = field(default_factory=ExitStack)  # until the end


def serve(follower: Follower) -> int:
    """Carries out orders up to the last one; returns the exit status that this one brings.

    Tells rank 0 of whatever is raised, and raises it; RankLost where rank 0 itself is gone.
    """
    served = Served(follower)
    try:
        with served.lasting:
            while not isinstance(order := follower.order(), End):
                answer = order(served)
                if answer is not None:
                    follower.answer(answer)
    except RankLost:
        raise
    except BaseException as error:
        lost = follower.fail(error)
        if lost is None:
            raise
        raise lost from error
    return order.status


@dataclass(frozen=True)
class Connect:
    """Has all ranks make the connections that sums go through."""

    backend: str

    def __call__(self, served: Served) -> bool:
        follower = served.follower
        follower.gradients = connect(follower.rank, self.backend, follower.store, follower.device)
        return True


@dataclass(frozen=True)
class Begin:
    """Begins a training, from its checkpoint where there is one; forgets others."""

    number: int
    is_sharded: bool
    forgotten: Sequence[int]
    task: Task
    mask: Mask
    weights: State
    start: Mapping[str, Any]
    masking: Masking
    recipe: Recipe
    checkpoint: Checkpoint | None

    @classmethod
    def of(
        cls,
        number: int,
        forgotten: Sequence[int],
        job: Job,
        recipe: Recipe,
        checkpoint: Checkpoint | None,
        *,
        is_sharded: bool,
    ) -> Begin:
        """Describes a job as it can be sent: tensors, and no functions that would read them.

        Of a sharded one without weights, which follow tensor by tensor, as do moments, whose
        shapes go ahead.
        """
        ticket, start = job.ticket, job.ticket.start
        moments = dict(start.optimizer if checkpoint is None else checkpoint.optimizer)
        if is_sharded:
            moments = {name: value.to("meta") for name, value in moments.items()}
        if checkpoint is not None:
            weights = {} if is_sharded else checkpoint.weights
            checkpoint = replace(checkpoint, weights=weights, optimizer=moments)
        return cls(
            number=number,
            is_sharded=is_sharded,
            forgotten=forgotten,
            task=job.task,
            mask=ticket.mask,
            weights={} if checkpoint or is_sharded else ticket.masked,
            start={
                "step": start.step,
                "order": start.order,
                "final_rate": start.final_rate,
                "rate_factor": start.rate_factor,
                "optimizer": {} if checkpoint else moments,
            },
            masking=job.masking,
            recipe=recipe,
            checkpoint=checkpoint,
        )

    def __call__(self, served: Served) -> None:
        for number in self.forgotten:
            served.trainings.pop(number, None)
        ticket = Ticket(self.mask, self.weights, Start(**self.start))
        job = Job(self.task, ticket, self.masking)
        follower = served.follower
        training = begun(
            job,
            self.recipe,
            self.checkpoint,
            follower.rank,
            follower.gradients,
            is_sharded=self.is_sharded,
        )
        # what it has started from is looked at no more, and may be large
        start = replace(ticket.start, optimizer={})
        training.loop.job = replace(job, ticket=Ticket(self.mask, {}, start))
        served.trainings[self.number] = training


@dataclass(frozen=True)
class Advance:
    """Takes one step."""

    number: int

    def __call__(self, served: Served) -> None:
        served.trainings[self.number].advance()


@dataclass(frozen=True)
class Evaluate:
    """Measures a rank's batches of a split."""

    number: int
    split: str

    def __call__(self, served: Served) -> list[list[Tensor]]:
        return served.trainings[self.number].evaluate(self.split)


@dataclass(frozen=True)
class GatherWeights:
    """Gives rank 0 a rank's part of the weights."""

    number: int

    def __call__(self, served: Served) -> None:
        served.trainings[self.number].gather_weights()


@dataclass(frozen=True)
class GatherMoments:
    """Gives rank 0 a rank's part of the optimizer's moments."""

    number: int

    def __call__(self, served: Served) -> None:
        served.trainings[self.number].gather_moments()


@dataclass(frozen=True)
class AskFinite:
    """Says whether a rank's part of the weights is finite."""

    number: int

    def __call__(self, served: Served) -> bool:
        return are_finite_here(served.trainings[self.number].loop.model)


@dataclass(frozen=True)
class Compare:
    """Says where a training stands."""

    number: int

    def __call__(self, served: Served) -> Standing:
        return served.trainings[self.number].standing()
