"""Finished trainings looked up in a Store, by which nothing is trained and nothing written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket, Trained
from lth_runner.store.checkpoint import Checkpoint
from lth_runner.store.store import Entry, whole_entry
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe
from lth_runner.training.trainer import clock_of
from lth_runner.values import identity
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step


class NotKept(Exception):
    """Says that the Store does not hold what was asked for, which steps would have to be run for.

    It is no UserError: whoever looks ahead only learns that it cannot see further.
    """


@dataclass(frozen=True)
class Lookup:
    """Finds trainings under the names that a ``Trainer`` of this recipe and engine gives them."""

    root: Path  # of the Store, there or not
    recipe: Recipe
    engine: str

    def key(self, job: Job) -> str:
        """Names a job's result as the Store does."""
        return identity.digest(job.identity(self.recipe, self.engine))

    def find(self, job: Job) -> StoredOnly | None:
        """Finds a job's training; None for one that is not there, or is damaged."""
        key = self.key(job)
        entry = whole_entry(self.root, key)
        return None if entry is None else StoredOnly(job, self, entry, key)


@dataclass(frozen=True)
class StoredOnly:
    """A finished training (a ``Trained``) that raises NotKept where steps would have to be run."""

    job: Job
    lookup: Lookup
    entry: Entry
    key: str
    reused: bool = True

    @property
    def ticket(self) -> Ticket:
        return self.job.ticket

    @cached_property
    def clock(self) -> Clock:
        return clock_of(self.job.task, self.lookup.recipe)

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
        """Reads the weights at a step; raises NotKept where there is no snapshot of it."""
        return self._snapshot(step).weights

    def optimizer_at(self, step: Step) -> State:
        """Reads the optimizer's state at a step, as ``at`` does the weights."""
        return self._snapshot(step).optimizer

    def masking_at(self, step: Step) -> State:
        """Reads the state of its live mask at a step, as ``at`` does the weights."""
        return self._snapshot(step).masking

    def _snapshot(self, step: Step) -> Checkpoint:
        found = self.entry.nearest_snapshot(step)
        if found is None or found.step < step:
            raise NotKept
        return found

    def gradients(self, num_steps: int) -> Iterator[State]:
        """Raises NotKept: gradients are of steps that are run again."""
        raise NotKept

    def derived(self, name: str, compute: Callable[[], State]) -> State:
        """Reads what was computed from this training; raises NotKept where nothing was."""

        def missing() -> State:
            raise NotKept

        return self.entry.derived(name, missing)

    def sibling(self, ticket: Ticket, arm: str, task: Task | None = None) -> Trained:
        """Raises NotKept: whether another training is there, its own asker tells."""
        raise NotKept
