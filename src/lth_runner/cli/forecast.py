"""The forecast of how long a run will take, before it starts."""

from __future__ import annotations

import logging
import os
import time

import torch

from lth_runner.experiment import Experiment
from lth_runner.probe import added_trainings
from lth_runner.search.ticket import dense_ticket
from lth_runner.training.engines.engine import Engine
from lth_runner.training.job import Job
from lth_runner.training.recipe import Recipe
from lth_runner.values.spinning import HALF_BUSY, load

SLOW_HOURS = 0.5
LOOK_SECONDS = 1.0  # at the pace of a run that looks slow
log = logging.getLogger(__name__)


def rows_by_round(experiment: Experiment) -> list[int]:
    """Counts a replicate's trainings in each round: its ticket, and the controls beside it."""
    search, arms = experiment.search, 1 + len(experiment.controls)
    return [*[1] * search.num_dense, *[arms] * (search.num_rounds - search.num_dense)]


def num_trainings(experiment: Experiment) -> int:
    """Counts the trainings that a run has at most, those of probes and controls among them."""
    rows = rows_by_round(experiment)
    parts = [*experiment.probes, *experiment.controls.values()]
    return len(experiment.tasks) * (sum(rows) + sum(added_trainings(part, rows) for part in parts))


def warn_if_slow(experiment: Experiment, recipe: Recipe, engine: Engine, num_steps: int) -> None:
    """Says before it starts how long ``num_steps``, all that are left, will take on a CPU.

    Nothing is said where that is not long.
    """
    if not num_steps or torch.device(experiment.tasks[0].device).type != "cpu":
        return
    # dense tickets, and not the search's: scoring may be what takes long
    tickets = [(task, dense_ticket(task)) for task in experiment.tasks]
    jobs = [Job(task, ticket, experiment.masking) for task, ticket in tickets]
    jobs = [jobs[index] for index in engine.pick(jobs)]
    with recipe.arithmetic(torch.device("cpu")):
        together = engine.begin(jobs, recipe, [None] * len(jobs))
        first = together.lanes[0]
        times: list[float] = []
        hours = 0.0
        # the first steps are slow, and so are those that other work disturbs
        while first.step < first.clock.total and (
            len(times) < 4 or (hours > SLOW_HOURS and sum(times) < LOOK_SECONDS)
        ):
            began = time.perf_counter()
            together.advance()
            times.append(time.perf_counter() - began)
            hours = min(times) / len(jobs) * num_steps / 3600
    if hours > SLOW_HOURS:
        less = ", fewer as weights go" if engine.name == "sparse" else ""
        log.warning(
            "warning: about %.3g hours on this CPU (%d steps of %.3g ms%s): use a GPU, or try the "
            "experiment in small with +scale=smoke%s",
            hours, num_steps, 1000 * min(times) / len(jobs), less, _crowded(),
        )  # fmt: skip


def _crowded() -> str:
    """Says where this run's threads are more than the cores that other work leaves them.

    They wait for each other after each product, and for a core that is taken: a step of a small
    network has many products, each of them short.
    """
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    others = load()
    if threads == 1 or threads + others < cores + HALF_BUSY:
        return ""
    return (
        f"; other work is on this machine (load {others:.1f} on {cores} cores), beside which "
        f"threads=1 may be much faster than {threads}"
    )
