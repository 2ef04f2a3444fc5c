"""Trainings through the Store: what has been done before is read, what is missing is trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from lth_runner import engine as engines
from lth_runner import identity
from lth_runner.engine import Engine, Pace
from lth_runner.mask import Mask
from lth_runner.state import State
from lth_runner.step import Clock, Step
from lth_runner.store import Entry, Store
from lth_runner.task import Task
from lth_runner.ticket import Ticket
from lth_runner.train import Checkpoint, Job, Recipe


@dataclass(frozen=True)
class StoredTraining:
    """A finished training, read from the Store (implements ticket.Trained)."""

    job: Job
    recipe: Recipe
    entry: Entry
    key: str
    reused: bool

    @property
    def ticket(self) -> Ticket:
        return self.job.ticket

    @cached_property
    def clock(self) -> Clock:
        return clock_of(self.job.task, self.recipe)

    @cached_property
    def _end(self) -> tuple[Mask, State]:
        return self.entry.end()

    @property
    def mask(self) -> Mask:
        return self._end[0]

    @property
    def weights(self) -> State:
        return self._end[1]

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        return self.entry.facts["history"]

    @property
    def diverged(self) -> bool:
        return self.entry.facts["diverged"]

    @property
    def seconds(self) -> float:
        return self.entry.facts["seconds"]

    def at(self, step: Step) -> State:
        """The weights at a step of this training."""
        return self._snapshot(step).weights

    def optimizer_at(self, step: Step) -> State:
        """The optimizer's state at a step of this training."""
        return self._snapshot(step).optimizer

    def _snapshot(self, step: Step) -> Checkpoint:
        found = self.entry.nearest_snapshot(step)
        if found is None or found.step < step:
            found = engines.replay(self.job, self.recipe, found, step)
            self.entry.keep_snapshot(found)
        return found

    def gradients(self, num_steps: int) -> Iterator[State]:
        """The loss gradients of the first steps, by running them again."""
        return engines.gradients(self.job, self.recipe, num_steps)

    def derived(self, name: str, compute: Callable[[], State]) -> State:
        """What a probe computed from this training, kept beside it."""
        return self.entry.derived(name, compute)


@dataclass(frozen=True)
class Trainer:
    """``fit`` a list of jobs and get a list of finished trainings, in the same order.

    ``run`` names who asks: a training done by another run counts as reused.
    """

    recipe: Recipe
    store: Store
    engine: Engine = field(default_factory=engines.Sequential)
    pace: Pace = field(default_factory=Pace)
    run: str = ""

    def fit(self, jobs: Sequence[Job]) -> list[StoredTraining]:
        """Trains what the Store does not hold; each training is published as it ends."""
        keys = [self.key(job) for job in jobs]
        found = {key: self.store.find(key) for key in keys}
        missing = {key: job for key, job in zip(keys, jobs, strict=True) if found[key] is None}
        drafts = [self.store.draft(key) for key in missing]
        order = list(missing.items())
        for index, outcome in self.engine.train(
            [job for _, job in order], self.recipe, drafts, self.pace
        ):
            key, job = order[index]
            clock = self.clock(job.task)
            facts = {"run": self.run, "steps": clock.total - job.ticket.start.step}
            found[key] = self.store.publish(key, outcome, facts)
        return [self._trained(job, key, found[key]) for job, key in zip(jobs, keys, strict=True)]

    def clock(self, task: Task) -> Clock:
        """The clock of every training on a task."""
        return clock_of(task, self.recipe)

    def key(self, job: Job) -> str:
        """The name under which the Store knows a job's result."""
        return identity.digest(job.identity(self.recipe, self.engine.name))

    def _trained(self, job: Job, key: str, entry: Entry | None) -> StoredTraining:
        assert entry is not None  # every missing one was published above
        return StoredTraining(job, self.recipe, entry, key, entry.facts["run"] != self.run)


def clock_of(task: Task, recipe: Recipe) -> Clock:
    """The clock of every training of a recipe on a task's data."""
    return recipe.clock(task.data.epoch(recipe.batch_size))
