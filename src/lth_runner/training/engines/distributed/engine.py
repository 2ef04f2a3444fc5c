"""The engine that trains one network after the other, each on all ranks."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest

from torch import Tensor

from lth_runner.problem.answers import Tally
from lth_runner.problem.objective import Objective
from lth_runner.store.checkpoint import Checkpoint
from lth_runner.training.engines.distributed.lines import Leader, others_that
from lth_runner.training.engines.distributed.orders import Advance, Begin, Compare, Evaluate
from lth_runner.training.engines.distributed.shared_training import SharedTraining
from lth_runner.training.engines.engine import Together
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe
from lth_runner.values.errors import UserError


@dataclass(frozen=True)
class Distributed:
    """Trains one network after the other, on all ranks that a leader has lines to.

    A batch is of all ranks together, so that a training is that of one process but for rounding.
    """

    leader: Leader

    @property
    def name(self) -> str:
        return f"distributed-{self.leader.rank.num}"

    def pick(self, jobs: Sequence[Job]) -> Sequence[int]:
        return [0]

    def begin(
        self, jobs: Sequence[Job], recipe: Recipe, checkpoints: Sequence[Checkpoint | None]
    ) -> Together:
        """Begins a training on all ranks; raises RankLost where one of them is gone."""
        [job], [checkpoint] = jobs, checkpoints
        leader, number = self.leader, self.leader.next_number()
        leader.tell(Begin.of(number, leader.forgotten(), job, recipe, checkpoint))
        training = SharedTraining(job, recipe, checkpoint, leader.rank)
        loop = training.loop
        loop.measure = partial(_measured, leader, number, weakref.ref(training))
        weakref.finalize(training, leader.forget, number)

        def advance() -> None:
            leader.tell(Advance(number))
            try:
                training.advance()
            except Exception as error:
                cause = leader.cause(error)
                if cause is error:
                    raise
                raise cause from error
            if loop.step == loop.clock.total:
                _compare(leader, number, training)
                training.close()

        return Together([loop], advance)


def _measured(
    leader: Leader, number: int, reference: weakref.ref[SharedTraining], split: str
) -> dict[str, float]:
    """Measures a split by all ranks' shares of it, put in the order of one process."""
    training = reference()
    assert training is not None
    leader.tell(Evaluate(number, split))
    own = training.evaluate(split)
    return merged(training.loop.job.task.objective, [own, *leader.answers()])


def merged(objective: Objective, shares: Sequence[Sequence[list[Tensor]]]) -> dict[str, float]:
    """Gives the figures of a split, of whose batches each rank has measured each so many-th."""
    batches = chain.from_iterable(zip_longest(*shares, fillvalue=[]))
    return Tally.of(objective, chain.from_iterable(batches)).figures()


def _compare(leader: Leader, number: int, training: SharedTraining) -> None:
    """Raises UserError where masks or weights are not the same on all ranks."""
    leader.tell(Compare(number))
    own, theirs = training.standing(), leader.answers()
    for what, other in (("mask", "another mask"), ("weights", "other weights")):
        differ = [getattr(one, what) != getattr(own, what) for one in theirs]
        if any(differ):
            raise UserError(
                f"after step {own.step} {others_that(differ, leader.others)} came to {other} than "
                "rank 0: each takes the optimizer's step by itself. Let all ranks have the same "
                "kind of processor or GPU, and let parts of your own draw random numbers from the "
                "global streams alone"
            )
