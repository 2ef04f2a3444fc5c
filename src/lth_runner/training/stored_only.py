"""Finished trainings looked up in a Store, by which nothing is trained and nothing written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lth_runner.problem.task import Task
from lth_runner.search.ticket import Trained
from lth_runner.store.checkpoint import Checkpoint
from lth_runner.store.store import Entry, whole_entry
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe
from lth_runner.training.stored_training import StoredTraining
from lth_runner.training.trainer import clock_of
from lth_runner.values import identity
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

    def find(self, job: Job) -> StoredTraining | None:
        """Finds a job's training; None for one that is not there, or is damaged."""
        key = self.key(job)
        entry = whole_entry(self.root, key)
        return None if entry is None else StoredTraining(job, entry, key, self, reused=True)

    def clock(self, task: Task) -> Clock:
        """Makes the clock of every training on a task."""
        return clock_of(task, self.recipe)

    def snapshot(self, job: Job, entry: Entry, step: Step) -> Checkpoint:
        """Reads the snapshot of a step; raises NotKept where there is none."""
        found = entry.nearest_snapshot(step)
        if found is None or found.step < step:
            raise NotKept
        return found

    def gradients(self, job: Job, num_steps: int) -> Iterator[State]:
        """Raises NotKept: gradients are of steps that are run again."""
        raise NotKept

    def computed(self, job: Job, compute: Callable[[], State]) -> State:
        """Raises NotKept: what is computed would be written."""
        raise NotKept

    def beside(self, job: Job) -> Trained:
        """Raises NotKept: whether another training is there, its own asker tells."""
        raise NotKept
