"""The record of one run, which hands a row for every finished training to every sink."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lth_runner.runs.folder import ENDED, Row
from lth_runner.runs.measure import listed
from lth_runner.runs.samples import samples_row
from lth_runner.search.final_outcomes import final_outcomes
from lth_runner.search.ticket import Trained, as_used
from lth_runner.store.ticket_file import StockTicket, Subnetwork
from lth_runner.training.job import Job
from lth_runner.values.measure import ACCURACY, Measure
from lth_runner.values.steps import Clock, Step

Place = tuple[int, str, int]  # round, arm, seed
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunDescription:
    """Describes a run to the sinks before it starts."""

    name: str
    run_id: str
    folder: Path
    config: Mapping[str, Any]  # resolved
    environment: Mapping[str, Any]
    command: str  # what continues it
    probes: str  # digest of the probes: other probes, other rows
    num_rounds: int
    num_trainings: int
    num_steps: Step
    problem: Mapping[str, Any] = field(default_factory=dict)  # what problem.json is to say

    @property
    def headline(self) -> Measure:
        """The measure that the run goes by; accuracy where the problem names none."""
        return next(iter(listed(self.problem)), ACCURACY)


@dataclass(frozen=True)
class Progress:
    """Says where a training stands; ``row`` is set where it was just evaluated."""

    round: int
    arm: str
    seed: int
    step: Step
    start: Step
    total: Step
    row: Row | None


class Sink(Protocol):
    """Takes the rows of a run somewhere."""

    def open(self, run: RunDescription) -> None:
        """Takes note of a run before its first training."""

    def progress(self, progress: Progress) -> None:
        """Takes note of where a training stands."""

    def metrics(self, rows: Sequence[Row]) -> None:
        """Takes the evaluations of a finished training."""

    def samples(self, row: Row) -> None:
        """Takes what a finished training made of each test sample, as ``samples_row`` writes it."""

    def round(self, row: Row, ticket: Subnetwork) -> None:
        """Takes the row of a finished training and the subnetwork that was trained."""

    def close(self, state: str, error: str | None) -> None:
        """Ends the record: ``done``, ``diverged``, ``interrupted`` or ``failed``."""


@dataclass(frozen=True)
class Record:
    """Hands every row to every sink; ``done`` holds the places that an earlier attempt recorded."""

    sinks: Sequence[Sink]
    done: Collection[Place] = ()

    def has(self, job: Job) -> bool:
        """Whether an earlier attempt at this run has recorded the job."""
        return (job.slot.round, job.slot.arm, job.task.seed) in self.done

    def watch(self, job: Job, step: Step, clock: Clock, row: Row | None) -> None:
        """Hands on where a training stands, from within it."""
        slot, start = job.slot, job.ticket.start.step
        progress = Progress(slot.round, slot.arm, job.task.seed, step, start, clock.total, row)
        for sink in self.sinks:
            sink.progress(progress)

    def round(self, job: Job, trained: Trained, row: Row) -> None:
        """Hands on a finished training: its evaluations, its row, its ticket."""
        place = {"round": job.slot.round, "arm": job.slot.arm, "seed": job.task.seed}
        metrics = [place | dict(measured) for measured in trained.history]
        plain = job.task.coordinates is None
        ticket = as_used(trained) if plain else StockTicket(job.task, as_used(trained))
        samples = None
        if f"test_{job.task.objective.measures[0].name}" in row:  # else no verdict needs them
            samples = samples_row(
                place | {"training_key": trained.key}, final_outcomes(job.task, trained).packed()
            )
        for sink in self.sinks:
            sink.metrics(metrics)
            if samples is not None:
                sink.samples(samples)
            sink.round(row, ticket)

    def close(self, state: str, error: str | None = None) -> None:
        """Ends the record: ``done``, ``diverged``, ``interrupted`` or ``failed``.

        Every sink is closed, whatever becomes of another; raises the first failure of a run that
        was done, and only logs those of one that ends with an error of its own.
        """
        failures = []
        for sink in self.sinks:
            try:
                sink.close(state, error)
            except Exception as failure:
                failures.append(failure)
        if failures and state in ENDED:
            raise failures[0]
        for one in failures:
            log.warning("while the record was closed: %s: %s", type(one).__name__, one)
