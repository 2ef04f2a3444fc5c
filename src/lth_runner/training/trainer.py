"""Trainings through the Store, which reads what has been done and trains what is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket, Trained
from lth_runner.store.checkpoint import Checkpoint
from lth_runner.store.lease import Lease
from lth_runner.store.store import Entry, Store
from lth_runner.training import train as engines
from lth_runner.training.engines.engine import Engine
from lth_runner.training.job import Job, Slot
from lth_runner.training.pace import Interrupted, Pace
from lth_runner.training.recipe import Recipe
from lth_runner.values import identity
from lth_runner.values.mask import Mask
from lth_runner.values.memory import give_back
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Trainer:
    """Turns a list of jobs into finished trainings, in the same order.

    ``run`` names who asks: a training done by another run counts as reused.
    """

    recipe: Recipe
    store: Store
    engine: Engine = field(default_factory=engines.Sequential)
    pace: Pace = field(default_factory=Pace)
    run: str = ""

    def fit(self, jobs: Sequence[Job]) -> Iterator[StoredTraining]:
        """Trains what the Store does not hold; yields in the jobs' order, each when it is there.

        What another process is training is waited for, and taken over when that process dies.
        """
        keys = [self.key(job) for job in jobs]
        missing = dict(zip(keys, jobs, strict=True))
        found: dict[str, Entry] = {}
        for job, key in zip(jobs, keys, strict=True):
            while key not in found:
                for other in list(missing):
                    entry = self.store.find(other)
                    if entry is not None:
                        found[other] = entry
                        del missing[other]
                if key not in found and not self._train_some(missing, found):
                    if self.pace.stop():
                        raise Interrupted
                    time.sleep(POLL_SECONDS)
            yield StoredTraining(job, self, found[key], key, found[key].facts["run"] != self.run)

    def _train_some(self, missing: dict[str, Job], found: dict[str, Entry]) -> bool:
        """Trains those that the engine takes together and no other process has; False: none."""
        leases: dict[str, Lease] = {}
        try:
            picked = self._claim(missing, leases)
            if picked is None:
                return True
            if not picked:
                return False
            for key in leases.keys() - set(picked):
                leases[key].release()
            drafts = [self.store.draft(key) for key in picked]
            batch = [missing[key] for key in picked]
            give_back(batch[0].task.num_parameters)  # of trials, and of trainings before
            for index, outcome in engines.train(self.engine, batch, self.recipe, drafts, self.pace):
                job, key = batch[index], picked[index]
                steps = self.clock(job.task).total - job.ticket.start.step
                facts = {"run": self.run, "steps": steps}
                found[key] = self.store.publish(key, outcome, facts)
                del missing[key]
                leases[key].release()
            give_back(batch[0].task.num_parameters)  # gradients, moments: probes come next
            return True
        finally:
            for lease in leases.values():
                lease.release()

    def _claim(self, missing: Mapping[str, Job], leases: dict[str, Lease]) -> list[str] | None:
        """Claims what the engine takes together of what is free; None where there is news first."""
        free = dict(missing)
        while free:
            keys = list(free)
            picked = [keys[index] for index in self.engine.pick(list(free.values()))]
            for key in picked:
                if key in leases:
                    continue
                lease = self.store.claim(key)
                if lease is None:
                    del free[key]
                    continue
                leases[key] = lease
                if self.store.find(key) is not None:  # published since we looked
                    return None
            if leases.keys() >= set(picked):
                return picked
        return []

    def clock(self, task: Task) -> Clock:
        """Makes the clock of every training on a task."""
        return clock_of(task, self.recipe)

    def key(self, job: Job) -> str:
        """Names a job's result as the Store does."""
        return identity.digest(job.identity(self.recipe, self.engine.name))


@dataclass(frozen=True)
class StoredTraining:
    """A finished training, read from the Store (a ``Trained``)."""

    job: Job
    trainer: Trainer
    entry: Entry
    key: str
    reused: bool

    @property
    def ticket(self) -> Ticket:
        return self.job.ticket

    @cached_property
    def clock(self) -> Clock:
        return self.trainer.clock(self.job.task)

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
        return self._snapshot(step).weights

    def optimizer_at(self, step: Step) -> State:
        """Reads the optimizer's state at a step of this training."""
        return self._snapshot(step).optimizer

    def masking_at(self, step: Step) -> State:
        """Reads the state of its live mask at a step of this training."""
        return self._snapshot(step).masking

    def _snapshot(self, step: Step) -> Checkpoint:
        found = self.entry.nearest_snapshot(step)
        if found is None or found.step < step:
            began = self.job.ticket.start.step if found is None else found.step
            trainer = self.trainer
            found = engines.replay(
                self.job, trainer.recipe, found, step, engine=trainer.engine, stop=trainer.pace.stop
            )
            trainer.pace.replayed(step - began)
            self.entry.keep_snapshot(found)
        return found

    def gradients(self, num_steps: int) -> Iterator[State]:
        """Runs the first steps again and yields the gradients of the loss."""
        left = self.clock.total - self.ticket.start.step
        self.trainer.pace.replayed(min(num_steps, left))
        trainer = self.trainer
        return engines.gradients(self.job, trainer.recipe, num_steps, engine=trainer.engine)

    def derived(self, name: str, compute: Callable[[], State]) -> State:
        """Reads what was computed from this training and is kept beside it."""

        def computed() -> State:
            found = compute()
            give_back(self.job.task.num_parameters)  # a replay, for one
            return found

        return self.entry.derived(name, computed)

    def sibling(self, ticket: Ticket, arm: str, task: Task | None = None) -> Trained:
        """Trains another ticket by the same recipe and masking, stored like any.

        On another ``task`` it keeps the snapshots that this training has.
        """
        slot = Slot(self.job.slot.round, f"{self.job.slot.arm}/{arm}")
        snapshots = () if task is None else self.job.snapshots
        there = task or self.job.task
        job = replace(self.job, task=there, ticket=ticket, slot=slot, snapshots=snapshots)
        return next(self.trainer.fit([job]))


def clock_of(task: Task, recipe: Recipe) -> Clock:
    """Makes the clock of every training of a recipe on a task's data."""
    return recipe.clock(task.data.epoch(recipe.batch_size))
