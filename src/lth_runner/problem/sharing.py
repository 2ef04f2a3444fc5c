"""Sums over batches of which several processes take parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import torch

from lth_runner.values.state import State
from lth_runner.values.tree import Batch

Task = Any  # the class, which knows this module
Part = tuple[float, Batch]  # a batch, and the factor that its terms are multiplied by


class Terms(Protocol):
    """What a batch adds to a sum; a value that can be sent to another process."""

    def __call__(self, task: Task, batch: Batch) -> Iterator[State]:
        """Computes the terms of a batch, in the pieces that memory holds."""

    def zeros(self) -> State:
        """Gives the sum over no batch."""


class Sharing(Protocol):
    """Has ``num`` processes, this one among them, each add up its share of the parts."""

    @property
    def num(self) -> int: ...

    def add_up(
        self, task: Task, terms: Terms, shares: Sequence[Sequence[Part]], *, in_step: bool = False
    ) -> State:
        """Sums up the terms of all shares; the first is this process's own.

        ``in_step``: the parts of all, as many in each share, are taken at the same time, and batch
        norms go by the samples of all of them.
        """


def added_up(task: Task, terms: Terms, parts: Iterable[Part]) -> State:
    """Sums up factor * terms over some parts, on the task's device."""
    total = {name: torch.zeros_like(v, device=task.device) for name, v in terms.zeros().items()}
    for factor, batch in parts:
        for term in terms(task, batch):
            for name, value in term.items():
                total[name] += value if factor == 1 else factor * value
    return total
