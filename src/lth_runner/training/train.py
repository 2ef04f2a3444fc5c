"""Trainings from their first step to their last, watched, checkpointed and replayed."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch

from lth_runner.problem.data.dataset import Awaited
from lth_runner.store.checkpoint import Checkpoint, Keeper, Outcome
from lth_runner.training.engines.engine import Engine
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.pace import Interrupted, Pace
from lth_runner.training.recipe import Recipe
from lth_runner.values.memory import is_out_of_memory
from lth_runner.values.state import State
from lth_runner.values.steps import Step

log = logging.getLogger(__name__)


def train(
    engine: Engine, jobs: Sequence[Job], recipe: Recipe, keepers: Sequence[Keeper], pace: Pace
) -> Iterator[tuple[int, Outcome]]:
    """Trains jobs that the engine takes together; yields (index, outcome) as each is finished.

    Where memory does not suffice, each half of them goes on by itself from its checkpoints.
    """
    steps = [_reached(job, keeper) for job, keeper in zip(jobs, keepers, strict=True)]
    for step in sorted(set(steps)):  # a kill between two saves leaves lanes that are not in step
        yield from _train_lanes(
            engine, [i for i, s in enumerate(steps) if s == step], jobs, recipe, keepers, pace
        )


def _reached(job: Job, keeper: Keeper) -> Step:
    """The step that a training goes on from; the checkpoint itself is not held on to."""
    checkpoint = keeper.load()
    return checkpoint.step if checkpoint else job.ticket.start.step


def _train_lanes(
    engine: Engine,
    chosen: Sequence[int],
    jobs: Sequence[Job],
    recipe: Recipe,
    keepers: Sequence[Keeper],
    pace: Pace,
) -> Iterator[tuple[int, Outcome]]:
    finished = set()
    try:
        for lane, outcome in _train([jobs[i] for i in chosen], engine, recipe,
                                    [keepers[i] for i in chosen], pace):  # fmt: skip
            finished.add(chosen[lane])
            yield chosen[lane], outcome
        return
    except (MemoryError, RuntimeError) as error:
        if len(chosen) == 1 or not is_out_of_memory(error):
            raise
    log.warning("%d trainings do not fit into memory together: halves of them", len(chosen))
    gc.collect()  # what of them is still held in circles
    left = [i for i in chosen if i not in finished]
    for half in (left[: len(left) // 2], left[len(left) // 2 :]):
        if half:
            yield from _train_lanes(engine, half, jobs, recipe, keepers, pace)


def _train(
    jobs: Sequence[Job], engine: Engine, recipe: Recipe, keepers: Sequence[Keeper], pace: Pace
) -> Iterator[tuple[int, Outcome]]:
    with recipe.arithmetic(torch.device(jobs[0].task.device)):
        together = engine.begin(jobs, recipe, [keeper.load() for keeper in keepers])
        lanes = dict(enumerate(together.lanes))
        first, clock = lanes[0], lanes[0].clock
        looks = recipe.evaluation_steps(clock)
        marks = {step for job in jobs for step in job.snapshots}
        began = last_checkpoint = last_look = time.monotonic()
        _snapshots(lanes, jobs, keepers)
        while lanes and first.step < clock.total:
            together.advance()
            if first.step in looks or first.step == clock.total:
                for loop in lanes.values():
                    pace.watch(loop.job, loop.step, clock, loop.evaluate())
                for index in [index for index, loop in lanes.items() if loop.diverged]:
                    yield index, lanes.pop(index).outcome()
            if first.step in marks:
                _snapshots(lanes, jobs, keepers)
            now = time.monotonic()
            stop = pace.stop()
            if stop or now - last_checkpoint > pace.checkpoint_seconds:
                for index, loop in lanes.items():
                    keepers[index].save(loop.checkpoint())
                last_checkpoint = time.monotonic()  # saving may have taken long
            if stop:
                raise Interrupted
            if now - last_look > 0.2 and lanes:
                for loop in lanes.values():
                    pace.watch(loop.job, loop.step, clock, None)
                last_look = now
        for index, loop in lanes.items():
            _tell_waiting(loop, time.monotonic() - began)
            yield index, loop.outcome()


def _tell_waiting(loop: Loop, seconds: float) -> None:
    """Logs how long a training has waited for its data, where others make them meanwhile."""
    if isinstance(loop.awaited, Awaited) and loop.awaited.by_workers:
        waited = loop.awaited.waited
        log.info("data     waited for %.0f s of %.0f, %.0f %%", waited, seconds,
                 100 * waited / max(seconds, waited, 1e-9))  # fmt: skip


def _snapshots(lanes: Mapping[int, Loop], jobs: Sequence[Job], keepers: Sequence[Keeper]) -> None:
    for index, loop in lanes.items():
        if loop.step in jobs[index].snapshots:
            keepers[index].snapshot(loop.checkpoint())


def replay(
    job: Job,
    recipe: Recipe,
    checkpoint: Checkpoint | None,
    until: Step,
    *,
    engine: Engine | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Checkpoint:
    """Takes the steps from an earlier checkpoint again; returns the checkpoint at ``until``."""
    with recipe.arithmetic(torch.device(job.task.device)):
        together = (engine or Sequential()).begin([job], recipe, [checkpoint])
        [loop] = together.lanes
        while loop.step < until:
            if stop():
                raise Interrupted
            together.advance()
        return loop.checkpoint()


def gradients(
    job: Job, recipe: Recipe, num_steps: int, *, engine: Engine | None = None
) -> Iterator[State]:
    """Yields gradients along a training's first steps, for every weight of the network.

    Those of the plain loss in fp32 on each step's batch, at the network's weights under their
    stock names, whatever a masking trains in their stead: no weight decay, no label smoothing, no
    dropout.
    """
    with recipe.arithmetic(torch.device(job.task.device)):
        together = (engine or Sequential()).begin([job], recipe, [None])
        [loop] = together.lanes
        for _ in range(min(num_steps, loop.clock.total - loop.step)):
            loop.forget_gradients()  # those of the step before: memory for the ones to come
            yield job.task.gradient(loop.looked_at(), loop.batch(), batch_statistics=True)
            together.advance()
