"""What a run is expected to do: what it trains and what it reuses, how long, how much disk."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from lth_runner.cli.build import Parts
from lth_runner.cli.loading import untold
from lth_runner.experiment import Experiment, next_jobs
from lth_runner.problem.task import Task
from lth_runner.runs.quantities import duration, size
from lth_runner.runs.record import Place, RunDescription
from lth_runner.runs.timings import Timing, timing_of_like
from lth_runner.search.ticket import Trained
from lth_runner.training.memory import bytes_of, num_moments
from lth_runner.training.recipe import Recipe
from lth_runner.training.stored_only import Lookup, NotKept
from lth_runner.training.trainer import clock_of
from lth_runner.values import identity
from lth_runner.values.errors import UserError

DEAR_SECONDS = 0.5  # of finding one ticket: a run that is to find it anyway does not find it twice


@dataclass(frozen=True)
class Seen:
    """What a look ahead saw of the Store.

    ``held`` are places whose training is there. ``missing`` names those that are not: as the Store
    does, or by what they depend on, so that what several runs would train has one name.
    """

    held: frozenset[Place]
    missing: frozenset[str]


@dataclass(frozen=True)
class Expected:
    """What is known of a run before it starts; the number of trainings is the most there can be."""

    num_trainings: int
    num_steps: int  # of one of them
    num_recorded: int
    seen: Seen | None  # None where the engine, and so the names in the Store, are not known yet
    timing: Timing | None
    num_bytes: float
    place: Path
    num_bytes_each: int = 0  # of the end of one training, at least

    @property
    def num_stored(self) -> int:
        """Counts what comes from the Store."""
        return len(self.seen.held) if self.seen else 0

    @property
    def num_to_train(self) -> int:
        """Counts what is left to train, at most."""
        return max(self.num_trainings - self.num_recorded - self.num_stored, 0)

    @property
    def seconds(self) -> float | None:
        """Estimates how long this takes; None where nothing alike was timed."""
        if self.timing is None:
            return None
        return self.num_to_train * self.num_steps * self.timing.seconds_per_step

    @property
    def lines(self) -> list[str]:
        """Writes three lines: trainings, time, disk."""
        return [self._plan, f"time     {told_time(self.num_to_train, self.seconds, self.timing)}",
                told_disk(self.num_bytes, self.place)]  # fmt: skip

    def check(self) -> None:
        """Raises UserError where not even one of the trainings can be kept."""
        free = _free(self.place)
        if self.num_to_train and self.num_bytes_each > free:
            raise UserError(
                f"no space left in {self.place}: the end of one training takes "
                f"{size(self.num_bytes_each)}, and {size(free)} are free: free some, or choose "
                "another disk with paths.outputs=..."
            )

    @property
    def _plan(self) -> str:
        parts = [f"{self.num_recorded} done before"] * bool(self.num_recorded)
        if self.seen is None:
            parts += ["the others to train or from the Store, known once the engine is chosen"]
        else:
            parts += [f"{self.num_stored} from the Store"] * bool(self.num_stored)
            parts += [f"{self.num_to_train} to train"]
        told = f"at most {self.num_trainings} trainings of {self.num_steps} steps"
        return f"plan     {told}: {', '.join(parts)}"


def expect(
    parts: Parts,
    run: RunDescription,
    engine: str | None,
    recorded: Collection[Place],
    *,
    is_about_to_run: bool = False,
) -> Expected:
    """Looks ahead at a run: trains nothing, and writes nothing.

    ``recorded``: the places that an earlier attempt has recorded. ``is_about_to_run``: leave what
    is dear to find out to the run, which says so when it comes to it.
    """
    root = parts.outputs / "store"
    seen = None
    if engine is not None:
        lookup = Lookup(root, parts.recipe, engine)
        seen = _look(parts.experiment, lookup, recorded, is_about_to_run=is_about_to_run)
    expected = Expected(
        num_trainings=run.num_trainings,
        num_steps=clock_of(parts.task, parts.recipe).total,
        num_recorded=len(recorded),
        seen=seen,
        timing=timing_of_like(parts.outputs, run.config, run.environment, engine),
        num_bytes=0.0,
        place=parts.outputs,
        num_bytes_each=bytes_of(parts.task),
    )
    return replace(expected, num_bytes=_bytes(parts, run, expected, recorded))


def _look(
    experiment: Experiment, lookup: Lookup, recorded: Collection[Place], *, is_about_to_run: bool
) -> Seen:
    """Follows every replicate from ticket to ticket as far as the Store holds them."""
    held: set[Place] = set()
    missing: set[str] = set()
    if is_about_to_run and not experiment.search.num_dense:
        return Seen(frozenset(), frozenset())  # its first ticket is a score away
    with untold(logging.WARNING), lookup.recipe.arithmetic(_device(experiment)):
        for task in experiment.tasks:
            past: list[Trained] = []
            absent: set[str] = set()
            while True:
                began = time.monotonic()
                ticket = _next(experiment, task, past, lookup, held, absent)
                dear = time.monotonic() - began > DEAR_SECONDS
                if ticket is None or (dear and is_about_to_run):
                    break
                past.append(ticket)
            missing |= absent | _following(experiment, len(past), frozenset(absent))
    return Seen(frozenset(held - set(recorded)), frozenset(missing))


def _following(experiment: Experiment, round: int, missing: frozenset[str]) -> set[str]:
    """Names what comes after a round of which trainings are missing, by these and the method."""
    parts = [experiment.search, experiment.masking]
    return {
        identity.digest([sorted(missing), identity.describe([*parts, control]), number, arm])
        for number in range(round + 1, experiment.search.num_rounds)
        for arm, control in {"ticket": None, **experiment.controls}.items()
        if missing
    }


def _next(
    experiment: Experiment,
    task: Task,
    past: list[Trained],
    lookup: Lookup,
    held: set[Place],
    missing: set[str],
) -> Trained | None:
    """Finds a replicate's next ticket in the Store, and notes of it and its controls."""
    try:
        proposed = next_jobs(replace(experiment, tasks=[task]), {task.seed: past}, [])
    except (NotKept, UserError):  # the run itself comes to it, and tells
        return None
    ticket = None
    for one in proposed:
        found = lookup.find(one.job)
        if found is None:
            missing.add(lookup.key(one.job))
            continue
        held.add((one.job.slot.round, one.job.slot.arm, task.seed))
        if one.job.slot.arm == "ticket":
            ticket = found
    return ticket


def _device(experiment: Experiment) -> torch.device:
    return torch.device(experiment.tasks[0].device)


def _bytes(
    parts: Parts, run: RunDescription, expected: Expected, recorded: Collection[Place]
) -> float:
    """Estimates the disk that is still to be filled: trainings, snapshots, tickets."""
    network, covered = bytes_of(parts.task), parts.task.dense().num_prunable
    tickets = run.num_rounds * len(parts.experiment.tasks)
    tickets -= sum(arm == "ticket" for _, arm, _ in recorded)
    ends = expected.num_to_train * (network + covered / 8)
    first = 0 if recorded or expected.num_stored else len(parts.experiment.tasks)
    return ends + tickets * (network + covered) + first * _snapshots(parts, parts.recipe) * network


def _snapshots(parts: Parts, recipe: Recipe) -> int:
    """Counts the copies of a network that the snapshots of a dense training are."""
    clock = clock_of(parts.task, recipe)
    steps = {*parts.experiment.search.snapshots(clock), *recipe.snapshot_steps(clock)}
    return len(steps) * (1 + num_moments(recipe))


def told_time(num_to_train: int, seconds: float | None, timing: Timing | None) -> str:
    """Says how long trainings will take, and by what that is known."""
    if not num_to_train:
        return "nothing to train"
    if seconds is None or timing is None:
        return "unknown: no training like these was timed here before"
    others = f" and {len(timing.folders) - 1} more" if len(timing.folders) > 1 else ""
    told = f"about {duration(seconds)}" if seconds >= 1 else "less than a second"
    return (
        f"{told} of training, as {timing.num_trainings} like these took in "
        f"{timing.folders[0]}{others}; probes and pictures come on top"
    )


def told_disk(num_bytes: float, place: Path) -> str:
    """Says how much disk is needed, and whether it is there."""
    free = _free(place)
    short = ": TOO LITTLE" if num_bytes > free else ""
    return f"disk     about {size(num_bytes)} in {place}, {size(free)} free{short}"


def _free(place: Path) -> int:
    """Counts the bytes that are free where a folder is, or is to be."""
    existing = next((one for one in (place, *place.absolute().parents) if one.is_dir()), place)
    return shutil.disk_usage(existing).free
