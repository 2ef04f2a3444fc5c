"""What is known of a run before it is there, and the tickets that it is to give to another one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.problem.laying import Laying
from lth_runner.problem.task import Task
from lth_runner.runs.given_tickets import check_choice
from lth_runner.search.given_ticket import GivenTicket, Kept, Weights, check_weights
from lth_runner.search.untrained import any_half
from lth_runner.values.errors import UserError
from lth_runner.values.listed import numbers_listed
from lth_runner.values.mask import Mask


@dataclass(frozen=True)
class AwaitedRun:
    """A run to come: ``called`` in messages; it has ``num_rounds`` at most, the first ones dense.

    ``dense``: the mask that keeps all it covers; ``tensors``: its weights' shapes and kinds of
    numbers, as tensors without memory; ``task``: its first replicate's problem.
    """

    called: str
    seeds: tuple[int, ...]
    num_rounds: int
    num_dense: int
    dense: Mask = field(compare=False)
    tensors: Mapping[str, Tensor] = field(compare=False)
    task: Any = field(compare=False)  # a Task: no part of those that it stands in for

    @classmethod
    def of(cls, called: str, tasks: Sequence[Task], num_rounds: int, num_dense: int) -> AwaitedRun:
        task = tasks[0]
        tensors = {name: value.to("meta") for name, value in task.init().items()}
        seeds = tuple(one.seed for one in tasks)
        return cls(called, seeds, num_rounds, num_dense, task.dense(), tensors, task)

    def check(self, key: str, *, round: int | None, seed: int | None) -> None:
        """Raises UserError for a round or a seed of ``key`` (origin) that the run will not have."""
        if round is not None and not 0 <= round < self.num_rounds:
            last = self.num_rounds - 1
            raise UserError(
                f"{key}.round={round}: {self.called} has round 0 to {last} at most: choose one of "
                "those"
            )
        if seed is not None and seed not in self.seeds:
            raise UserError(
                f"{key}.seed={seed}: {self.called} has seed {numbers_listed(self.seeds)}: "
                "choose one of those"
            )

    def lay(
        self,
        module: nn.Module,
        *,
        into: str | None,
        fresh: Sequence[str] | None,
        unused: Sequence[str] | None,
    ) -> None:
        """Writes zeros over a network in place of the weights to come, as ``FromRun`` writes them.

        Raises UserError where they will not be the network's.
        """
        held = self.tensors.items()
        given = (((into or "") + n, torch.zeros(t.shape, dtype=t.dtype)) for n, t in held)
        Laying(self.called, fresh or (), unused or ()).lay(module, given)

    def ticket(self, covered: Collection[str], round: int | None) -> GivenTicket:
        """Gives one that stands for those to come: the right shapes, and half of the weights.

        Only what is ``covered`` where it is to be trained is pruned: of other tensors, which a
        search may spare, it is not known yet. Where no name fits (``rename``), all are.
        """
        half = any_half(self.dense)
        if round is not None and round < self.num_dense:
            half = self.dense
        both = self.dense.keys() & set(covered)
        pruned = both or self.dense.keys()
        mask = Mask({name: half[name] if name in pruned else self.dense[name] for name in half})
        held = Kept((), lambda: mask(self._weights()))
        return GivenTicket(f"a ticket of {self.called}", Kept((), lambda: mask), held, held)

    def _weights(self) -> dict[str, Tensor]:
        return {n: torch.ones(one.shape, dtype=one.dtype) for n, one in self.tensors.items()}


@dataclass(frozen=True)
class AwaitedTickets:
    """The tickets of a run to come, in place of ``GivenTickets`` of the same options.

    ``covered``: what a mask covers where they are to be trained. Raises UserError for options that
    contradict each other, and for what the run will not have.
    """

    run: AwaitedRun = field(compare=False)
    covered: Collection[str] = field(compare=False)
    round: int | None = None
    sparsity: float | None = None
    best_matching: bool = False
    rounds: int | None = None
    seed: int | None = None
    weights: Weights = "own"

    def __post_init__(self) -> None:
        check_weights(self.weights)
        check_choice(self.round, self.sparsity, self.rounds, best_matching=self.best_matching)
        self.run.check("pruner", round=self.round, seed=self.seed)

    @property
    def num(self) -> int:
        if self.round is not None or self.sparsity is not None or self.best_matching:
            return 1
        found = max(1, self.run.num_rounds - self.run.num_dense)
        return found if self.rounds is None else min(found, self.rounds)

    def check_seeds(self, seeds: Sequence[int]) -> None:
        lacking = sorted(set(seeds) - set(self.run.seeds))
        if self.seed is None and lacking:
            raise UserError(
                f"{self.run.called} has no ticket of seed {numbers_listed(lacking)}: it has "
                f"seed {numbers_listed(self.run.seeds)}. Set seed and replicates to those, or "
                f"pruner.seed={self.run.seeds[0]} to give one replicate's tickets to all"
            )

    def of(self, seed: int) -> Sequence[GivenTicket]:
        """Lists one that stands for all."""
        return [self.run.ticket(self.covered, self.round)]
