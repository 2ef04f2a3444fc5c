"""Trainings through the Store, which reads what has been done and trains what is missing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lth_runner.problem.task import Task
from lth_runner.search.ticket import Trained
from lth_runner.store.checkpoint import Checkpoint
from lth_runner.store.lease import Lease
from lth_runner.store.store import Entry, Store
from lth_runner.training import train as engines
from lth_runner.training.engines.engine import Engine
from lth_runner.training.job import Job
from lth_runner.training.pace import Interrupted, Pace
from lth_runner.training.recipe import Recipe
from lth_runner.training.stored_training import StoredTraining
from lth_runner.values import identity
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
            reused = found[key].facts["run"] != self.run
            yield StoredTraining(job, found[key], key, self, reused=reused)

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

    def snapshot(self, job: Job, entry: Entry, step: Step) -> Checkpoint:
        """Reads the snapshot of a step, or runs the steps before it again and keeps it."""
        found = entry.nearest_snapshot(step)
        if found is None or found.step < step:
            began = job.ticket.start.step if found is None else found.step
            found = engines.replay(
                job, self.recipe, found, step, engine=self.engine, stop=self.pace.stop
            )
            self.pace.replayed(step - began)
            entry.keep_snapshot(found)
        return found

    def gradients(self, job: Job, num_steps: int) -> Iterator[State]:
        """Runs the first steps again and yields the gradients of the loss."""
        left = self.clock(job.task).total - job.ticket.start.step
        self.pace.replayed(min(num_steps, left))
        return engines.gradients(job, self.recipe, num_steps, engine=self.engine)

    def computed(self, job: Job, compute: Callable[[], State]) -> State:
        """Computes what is to be kept beside a training."""
        found = compute()
        give_back(job.task.num_parameters)  # a replay, for one
        return found

    def beside(self, job: Job) -> Trained:
        """Trains another job beside a finished one, stored like any."""
        return next(self.fit([job]))


def clock_of(task: Task, recipe: Recipe) -> Clock:
    """Makes the clock of every training of a recipe on a task's data."""
    return recipe.clock(task.data.epoch(recipe.batch_size))
