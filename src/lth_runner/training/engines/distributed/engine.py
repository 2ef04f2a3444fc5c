"""The engine that trains one network after the other, each on all ranks."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, zip_longest

from torch import Tensor

from lth_runner.problem.answers import Tally
from lth_runner.problem.objective import Objective
from lth_runner.store.checkpoint import Checkpoint
from lth_runner.training.elsewhere import Elsewhere
from lth_runner.training.engines.distributed.collectives import severed_within
from lth_runner.training.engines.distributed.lines import Leader, others_that, told
from lth_runner.training.engines.distributed.orders import (
    Advance,
    AskFinite,
    Begin,
    Compare,
    Evaluate,
    GatherMoments,
    GatherWeights,
)
from lth_runner.training.engines.distributed.shared_training import (
    SharedTraining,
    begun,
)
from lth_runner.training.engines.engine import Together
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe
from lth_runner.values.errors import UserError
from lth_runner.values.state import State


@dataclass(frozen=True)
class Distributed:
    """Trains one network after the other, on all ranks that a leader has lines to.

    A batch is of all ranks together, so that a training is that of one process but for rounding.
    ``is_sharded``: each rank holds a part of the network, where it else holds all of it.
    """

    leader: Leader
    is_sharded: bool = field(default=False, kw_only=True)

    @property
    def name(self) -> str:
        return f"{'sharded' if self.is_sharded else 'distributed'}-{self.leader.rank.num}"

    def pick(self, jobs: Sequence[Job]) -> Sequence[int]:
        return [0]

    def begin(
        self, jobs: Sequence[Job], recipe: Recipe, checkpoints: Sequence[Checkpoint | None]
    ) -> Together:
        """Begins a training on all ranks; raises RankLost where one of them is gone."""
        [job], [checkpoint] = jobs, checkpoints
        leader, number = self.leader, self.leader.next_number()
        forgotten, is_sharded = leader.forgotten(), self.is_sharded
        leader.tell(Begin.of(number, forgotten, job, recipe, checkpoint, is_sharded=is_sharded))
        rank, group = leader.rank, leader.gradients
        with told(leader):
            training = begun(job, recipe, checkpoint, rank, group, is_sharded=is_sharded)
        loop = training.loop
        if is_sharded:
            loop.elsewhere = _elsewhere(leader, number)
        loop.measure = partial(_measured, leader, number, weakref.ref(training))
        weakref.finalize(training, leader.forget, number)

        # where ranks may stray, that shows in the first step already, mostly
        looks = {loop.clock.total, *([loop.step + 1] if is_sharded else [])}

        def advance() -> None:
            leader.tell(Advance(number))
            with told(leader):
                training.advance()
            if loop.step in looks:
                _compare(leader, number, training)
            if loop.step == loop.clock.total:
                training.close()

        return Together([loop], advance)


def _elsewhere(leader: Leader, number: int) -> Elsewhere:
    """Has the other ranks join in where this one reads weights and moments."""

    def read(order: object, own: Callable[[], State]) -> State:
        leader.tell(order)
        with told(leader), severed_within():
            return own()

    def are_finite(own: bool) -> bool:  # noqa: FBT001 (an answer)
        leader.tell(AskFinite(number))
        return all([own, *leader.answers()])

    return Elsewhere(
        weights=partial(read, GatherWeights(number)),
        moments=partial(read, GatherMoments(number)),
        are_finite=are_finite,
    )


def _measured(
    leader: Leader, number: int, reference: weakref.ref[SharedTraining], split: str
) -> dict[str, float]:
    """Measures a split by all ranks' shares of it, put in the order of one process."""
    training = reference()
    assert training is not None
    leader.tell(Evaluate(number, split))
    with told(leader):
        own = training.evaluate(split)
    return merged(training.loop.job.task.objective, [own, *leader.answers()])


def merged(objective: Objective, shares: Sequence[Sequence[list[Tensor]]]) -> dict[str, float]:
    """Gives the figures of a split, of whose batches each rank has measured each so many-th."""
    batches = chain.from_iterable(zip_longest(*shares, fillvalue=[]))
    return Tally.of(objective, chain.from_iterable(batches)).figures()


def _compare(leader: Leader, number: int, training: SharedTraining) -> None:
    """Raises UserError where masks or weights are not the same on all ranks, or their way there."""
    leader.tell(Compare(number))
    own, theirs = training.standing(), leader.answers()
    strays = [one.way != own.way for one in theirs]
    if any(strays):
        raise UserError(
            f"train.engine=sharded: up to step {own.step} {others_that(strays, leader.others)} "
            "went through other layers of the model than rank 0, or came to gradients of other "
            "weights, so that what is summed is not the same. All ranks must go the same way: for "
            "a model that leaves layers out at random, or chooses them by the sample, there is "
            "train.engine=distributed"
        )
    for what, other in (("mask", "another mask"), ("weights", "other weights")):
        differ = [getattr(one, what) != getattr(own, what) for one in theirs]
        if any(differ):
            raise UserError(
                f"after step {own.step} {others_that(differ, leader.others)} came to {other} than "
                "rank 0: each takes the optimizer's step by itself. Let all ranks have the same "
                "kind of processor or GPU, and let parts of your own draw random numbers from the "
                "global streams alone"
            )
