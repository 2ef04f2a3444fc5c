"""Sums over batches that all ranks make together, as the scores of rank 0 ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from lth_runner.problem.sharing import Part, Terms, added_up
from lth_runner.problem.task import Task
from lth_runner.training.engines.distributed.batch_norm import Synchronised
from lth_runner.training.engines.distributed.collectives import severed_within, summed
from lth_runner.training.engines.distributed.lines import Leader, told
from lth_runner.training.engines.distributed.orders import Served
from lth_runner.values.state import State


@dataclass(frozen=True)
class AddUp:
    """Has each rank add up its share of some parts of batches."""

    task: Task
    terms: Terms
    shares: Sequence[Sequence[Part]]
    in_step: bool

    def __call__(self, served: Served) -> None:
        own = self.shares[served.follower.rank.number]
        _summed(self.task, self.terms, own, in_step=self.in_step)


@dataclass(frozen=True, eq=False)
class ByRanks:
    """Has all ranks add up terms over batches, and gives the sums to rank 0."""

    leader: Leader

    @property
    def num(self) -> int:
        return self.leader.rank.num

    def add_up(
        self, task: Task, terms: Terms, shares: Sequence[Sequence[Part]], *, in_step: bool = False
    ) -> State:
        """Sums up the terms of all shares; raises RankLost where a rank is gone."""
        own, *others = shares
        if not any(others):
            return added_up(task, terms, own)
        self.leader.tell(AddUp(task, terms, ((), *others), in_step))
        with told(self.leader):
            return _summed(task, terms, own, in_step=in_step)


def _summed(task: Task, terms: Terms, parts: Sequence[Part], *, in_step: bool) -> State:
    if in_step:
        _ = task.is_random  # found by a step of each rank's own, of which no sum is to be
    with severed_within(), Synchronised() if in_step else nullcontext():
        own = added_up(task, terms, parts)
    return {name: summed(own[name]) for name in sorted(own)}
