"""A finished training: read from the Store, and where that does not hold it, run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket, Trained
from lth_runner.store.checkpoint import Checkpoint
from lth_runner.store.store import Entry
from lth_runner.training.job import Job, Slot
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step


class Again(Protocol):
    """Runs what the Store does not hold of a training, or says that it does not."""

    def clock(self, task: Task) -> Clock: ...
    def snapshot(self, job: Job, entry: Entry, step: Step) -> Checkpoint: ...
    def gradients(self, job: Job, num_steps: int) -> Iterator[State]: ...
    def computed(self, job: Job, compute: Callable[[], State]) -> State: ...
    def beside(self, job: Job) -> Trained: ...


@dataclass(frozen=True)
class StoredTraining:
    """A finished training, read from the Store (a ``Trained``)."""

    job: Job
    entry: Entry
    key: str
    again: Again
    reused: bool

    @property
    def ticket(self) -> Ticket:
        return self.job.ticket

    @cached_property
    def clock(self) -> Clock:
        return self.again.clock(self.job.task)

    @cached_property
    def mask(self) -> Mask:
        kept = self.entry.mask  # files name tensors by the alphabet; budgets go by layer order
        return Mask({name: kept[name] for name in self.job.task.prunable})

    @property
    def weights(self) -> State:
        return self.entry.weights

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        return [dict(row) for row in self.entry.facts["history"]]

    @property
    def diverged(self) -> bool:
        return self.entry.facts["diverged"]

    @property
    def seconds(self) -> float:
        return self.entry.facts["seconds"]

    def at(self, step: Step) -> State:
        """Reads the weights at a step of this training."""
        return self.again.snapshot(self.job, self.entry, step).weights

    def optimizer_at(self, step: Step) -> State:
        """Reads the optimizer's state at a step of this training."""
        return self.again.snapshot(self.job, self.entry, step).optimizer

    def masking_at(self, step: Step) -> State:
        """Reads the state of its live mask at a step of this training."""
        return self.again.snapshot(self.job, self.entry, step).masking

    def gradients(self, num_steps: int) -> Iterator[State]:
        """Yields the gradients of the loss along its first steps."""
        return self.again.gradients(self.job, num_steps)

    def derived(self, name: str, compute: Callable[[], State]) -> State:
        """Reads what was computed from this training and is kept beside it."""
        return self.entry.derived(name, lambda: self.again.computed(self.job, compute))

    def sibling(self, ticket: Ticket, arm: str, task: Task | None = None) -> Trained:
        """Trains another ticket by the same recipe and masking, stored like any.

        On another ``task`` it keeps the snapshots that this training has.
        """
        slot = Slot(self.job.slot.round, f"{self.job.slot.arm}/{arm}")
        snapshots = () if task is None else self.job.snapshots
        there = task or self.job.task
        return self.again.beside(
            replace(self.job, task=there, ticket=ticket, slot=slot, snapshots=snapshots)
        )
