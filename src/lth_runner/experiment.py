"""The program runs rounds of train, prune and rewind, for a ticket and the controls beside it.

    past = {}                                    # finished rounds, by replicate
    while proposed := next_jobs(...):            # tickets and control arms of all replicates
        trainer.fit(their jobs)                  # what the Store holds comes back at once
        record each with what the probes say

Everything that a method decides lies behind two seams: a ``Search`` proposes the next ticket
between trainings, a ``Masking`` moves or holds the mask within one. Nothing here knows which.
Resuming needs no code: the same proposals meet the same stored trainings.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lth_runner.control import Control
from lth_runner.masking import Masking, with_measured_statistics
from lth_runner.probe import Probe
from lth_runner.probe.measured import measured
from lth_runner.problem.task import Task
from lth_runner.runs.record import Record
from lth_runner.search import Search
from lth_runner.search.ticket import Past, Trained
from lth_runner.training.job import Job, Slot
from lth_runner.training.trainer import Trainer
from lth_runner.values.seeds import derive
from lth_runner.values.steps import Step

ROW = frozenset({  # what a line of rounds.jsonl says besides what probes measure
    "round", "arm", "seed", "sparsity", "density", "num_kept", "num_prunable", "num_parameters",
    "sparsity_of_all", "start_step", "steps", "diverged", "layer_density", "training_key", "reused",
    "seconds", "search_seconds",
})  # fmt: skip
Rounds = dict[int, list[Trained]]  # seed -> the ticket arm's finished trainings, dense first


@dataclass(frozen=True)
class Experiment:
    """Says what to run; ``tasks`` holds one problem per replicate."""

    tasks: Sequence[Task]
    search: Search
    masking: Masking
    controls: Mapping[str, Control]
    probes: Sequence[Probe]


@dataclass(frozen=True)
class Proposed:
    """A training to be done, and how long the search or the control took to find its ticket."""

    job: Job
    seconds: float


def run(experiment: Experiment, trainer: Trainer, record: Record) -> Rounds:
    """Runs to the end; returns every replicate's rounds."""
    past: Rounds = {task.seed: [] for task in experiment.tasks}
    clock = trainer.clock(experiment.tasks[0])
    snapshots = {*experiment.search.snapshots(clock), *trainer.recipe.snapshot_steps(clock)}
    while proposed := next_jobs(experiment, past, sorted(snapshots)):
        tickets = {}
        results = trainer.fit([one.job for one in proposed])
        for one, trained in zip(proposed, results, strict=True):
            job = one.job
            if not record.has(job):
                record.round(job, trained, row(experiment, one, trained, past[job.task.seed]))
            if job.slot.arm == "ticket":
                tickets[job.task.seed] = trained
        for seed, trained in tickets.items():
            past[seed].append(trained)
    return past


def next_jobs(experiment: Experiment, past: Rounds, snapshots: Sequence[Step]) -> list[Proposed]:
    """Lists every replicate's next round: its ticket, and its controls once weights are pruned."""
    proposed = []
    for task in experiment.tasks:
        history = past[task.seed]
        if history and history[-1].diverged:
            continue  # nothing to prune by; its siblings go on
        began = time.perf_counter()
        ticket = experiment.search.propose(task, history)
        if ticket is None:
            continue
        seconds = time.perf_counter() - began
        wanted = () if history else tuple(snapshots)
        number = len(history)
        job = Job(task, ticket, experiment.masking, Slot(number), wanted)
        proposed.append(Proposed(job, seconds))
        if ticket.mask.num_kept == ticket.mask.num_prunable:
            continue
        for name, control in experiment.controls.items():
            # by the mask and not by the round: runs that share a ticket share its controls
            seed = derive(task.seed, "control", name, ticket.mask.fingerprint)
            began = time.perf_counter()
            arm = control(task, ticket, history, seed)
            if arm is None:
                continue  # and has said why
            if history and arm.start.is_end(history[0].clock):
                # it makes no step in which running statistics could be measured
                arm = with_measured_statistics(task, arm, experiment.masking)
            seconds = time.perf_counter() - began
            job = Job(task, arm, experiment.masking, Slot(number, name))
            proposed.append(Proposed(job, seconds))
    return proposed


def row(experiment: Experiment, one: Proposed, trained: Trained, past: Past) -> dict[str, Any]:
    """Makes a line of rounds.jsonl: what the training is, and what the probes say of it."""
    job, mask = one.job, trained.mask
    facts = {
        "round": job.slot.round,
        "arm": job.slot.arm,
        "seed": job.task.seed,
        "sparsity": mask.sparsity,
        "density": mask.density,
        "num_kept": mask.num_kept,
        "num_prunable": mask.num_prunable,
        "num_parameters": job.task.num_parameters,
        "sparsity_of_all": (mask.num_prunable - mask.num_kept) / job.task.num_parameters,
        "start_step": trained.ticket.start.step,
        "steps": trained.clock.total - trained.ticket.start.step,
        "diverged": trained.diverged,
    }
    found: dict[str, Any] = {}
    for probe in () if trained.diverged else experiment.probes:
        told, taken = f"the probe {type(probe).__name__}", ROW | found.keys()
        found |= measured(probe, job.task, past, trained, taken=taken, told=told)
    return (
        facts
        | found
        | {
            "layer_density": mask.layer_density(),
            "training_key": trained.key,
            "reused": trained.reused,
            "seconds": trained.seconds,
            "search_seconds": one.seconds,
        }
    )
