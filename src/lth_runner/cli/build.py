"""The second stage of a run builds the parts that its config names, and checks each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lth_runner.control import Control, check_beside, possible
from lth_runner.control import check as check_control
from lth_runner.experiment import ROW, Experiment
from lth_runner.masking import Masking, check_way_back
from lth_runner.masking import check as check_masking
from lth_runner.parts.make import part
from lth_runner.parts.task import build_task
from lth_runner.probe import Probe
from lth_runner.probe.trial import try_probe
from lth_runner.problem.fits import check_fits
from lth_runner.problem.objective import smoothed
from lth_runner.problem.requirements import check as check_demands
from lth_runner.problem.requirements import (
    check_exclude,
    check_layers,
    check_replicates,
    draws_anew,
)
from lth_runner.problem.starts import check_starts
from lth_runner.problem.task import Task
from lth_runner.runs.evidence.tolerance import Tolerance
from lth_runner.search import Search
from lth_runner.search.search import check_schedules
from lth_runner.training.job import GENERATION
from lth_runner.training.memory import MemoryPlan, bytes_of, check_on_device
from lth_runner.training.recipe import Recipe
from lth_runner.training.trainer import clock_of
from lth_runner.training.trial import try_a_step
from lth_runner.values import identity
from lth_runner.values import state as states


@dataclass(frozen=True)
class Parts:
    """The parts that a config stands for."""

    values: Mapping[str, Any]  # the config itself
    experiment: Experiment
    recipe: Recipe
    run_id: str
    probes: str  # digest
    num_ranks: int = 1  # of this machine

    @property
    def task(self) -> Task:
        """The first replicate's task, which stands for all where the seed does not matter."""
        return self.experiment.tasks[0]

    @property
    def memory(self) -> MemoryPlan:
        """What the trainings of a round take."""
        copies = len(self.experiment.tasks) * (1 + len(self.experiment.controls))
        num_bytes = bytes_of(self.task)
        plan = MemoryPlan.of(num_bytes, self.recipe, copies, torch.device(self.task.device))
        return replace(plan, num_ranks=self.num_ranks)

    @property
    def outputs(self) -> Path:
        """The folder of run folders and of the Store."""
        return Path(self.values["paths"]["outputs"])


def build(values: Mapping[str, Any]) -> Parts:
    """Builds the parts of a checked config, and has each look at the problem it is to serve.

    Raises UserError for what cannot be built, or does not fit the data, the network, the clock or
    the machine.
    """
    search: Search = part(values, "pruner.search", Search)
    experiment, recipe = checked(values, lambda task: search)
    return named(values, experiment, recipe)


def try_parts(values: Mapping[str, Any]) -> None:
    """Raises UserError for what is refused whatever the data and the network are."""
    recipe, *_ = without_problem(values)
    recipe.check_optimizer()
    part(values, "pruner.search", Search)


def named(values: Mapping[str, Any], experiment: Experiment, recipe: Recipe) -> Parts:
    """Names the run that checked parts make; ``values``: the config beside them."""
    return Parts(
        values=values,
        experiment=experiment,
        recipe=recipe,
        run_id=run_id(experiment, recipe),
        probes=identity.digest(identity.describe(list(experiment.probes))),
    )


def checked(
    values: Mapping[str, Any], searching: Callable[[Task], Search]
) -> tuple[Experiment, Recipe]:
    """Builds what a config stands for, and checks it; ``searching`` gives the search for a task."""
    recipe, masking, controls, probes = without_problem(values)
    copies = values["replicates"] * (1 + len(controls))

    def weigh(num_bytes: int, device: torch.device) -> None:
        MemoryPlan.of(num_bytes, recipe, copies, device).check()

    first = build_task(values, weigh)
    if recipe.engine == "sharded":  # of a network of one's own too, whose size was not known
        num_bytes = sum(value.nbytes for value in first.init().values())
        MemoryPlan.of(num_bytes, recipe, copies, torch.device(first.device)).check_whole()
    tasks = [first.with_seed(first.seed + index) for index in range(values["replicates"])]
    experiment = Experiment(tasks, searching(first), masking, controls, probes)
    whole = {"pruner": experiment.search, **{f"control.{n}": c for n, c in controls.items()}}
    whole |= {f"probe.{n}": probe for n, probe in zip(values["probe"], probes, strict=True)}
    for key, one in whole.items():
        check_on_device(key, one, first, recipe)
    check_parts(experiment, recipe)
    check_measures(experiment, recipe, values)
    return experiment, recipe


def without_problem(
    values: Mapping[str, Any],
) -> tuple[Recipe, Masking, dict[str, Control], list[Probe]]:
    """Builds what needs neither data nor network; raises UserError for what the parts refuse."""
    recipe: Recipe = part(values, "train", Recipe)
    masking: Masking = part(values, "pruner.masking", Masking)
    controls = {name: part(values, f"control.{name}", Control) for name in values["control"]}
    probes: list[Probe] = [part(values, f"probe.{name}", Probe) for name in values["probe"]]
    return recipe, masking, possible(controls), probes


def check_measures(experiment: Experiment, recipe: Recipe, values: Mapping[str, Any]) -> None:
    """Raises UserError for probes that do not fit, and for a tolerance that is none.

    ``values``: a config with the names of the probes, and ``report.tolerance``.
    """
    first = experiment.tasks[0]
    clock = clock_of(first, recipe)
    for name, probe in zip(values["probe"], experiment.probes, strict=True):
        try_probe(f"probe.{name}", probe, first, clock, taken=ROW)
    Tolerance.parse(values["report"].get("tolerance"), first.objective.measures[0])


def check_parts(experiment: Experiment, recipe: Recipe) -> None:
    """Raises UserError for what would come out in the midst of the trainings."""
    task = experiment.tasks[0]
    check_fits(task)
    drawing = [f"control={name}" for name, part in experiment.controls.items() if draws_anew(part)]
    drawing += ["rewind.weights=reinit"] if draws_anew(experiment.search) else []
    check_starts(experiment.tasks, drawing)
    task.data.stream(recipe.batch_size, task.seed)  # refuses a batch larger than the data
    clock = clock_of(task, recipe)
    recipe.check(clock, torch.device(task.device))
    experiment.search.check(task, clock, recipe.rate)
    check_replicates(experiment.search, experiment.tasks)
    check_masking(experiment.masking, clock)
    check_exclude(experiment.search, task)
    check_exclude(experiment.masking, task)
    for one in (experiment.search, experiment.masking, *experiment.controls.values()):
        check_layers(one, task)
        check_schedules(one, task)
    for control in experiment.controls.values():
        check_control(control, task, clock, recipe.rate)
    arms = (experiment.search, *experiment.controls.values())
    check_way_back(experiment.masking, arms, task, clock)
    check_beside(experiment.controls.values(), experiment.search, task, clock)
    for probe in experiment.probes:
        check_demands(probe, task)
        check_replicates(probe, experiment.tasks)
    smoothed(task.objective, recipe.label_smoothing)  # refuses what it cannot smooth
    try_a_step(task, recipe)


def run_id(experiment: Experiment, recipe: Recipe) -> str:
    """Returns the hash of all that can change a result: the same command, the same folder.

    Of the parts and not of the config: other data under the same path are another run, and so is
    an edited network; where results are written, or how often, is no part of it. Of the engine it
    holds what was asked for: which one that comes to is chosen once and kept in the folder.
    """
    first = experiment.tasks[0]
    parts = {
        "generation": GENERATION,
        "task": first.identity,
        "device": torch.device(first.device).type,
        "engine": recipe.engine,
        "seeds": [task.seed for task in experiment.tasks],
        "recipe": identity.describe(recipe),
        # by their values: a network that loads them itself, or an origin, may bring others
        "starts": [states.fingerprint(task.init()) for task in experiment.tasks],
        "search": identity.describe(experiment.search),
        "masking": identity.describe(experiment.masking),
        "controls": identity.describe(experiment.controls),
    }
    if first.origin is not None and not first.is_shipped:  # what is drawn anew may be loaded too
        parts["fresh"] = states.fingerprint(first.fresh(first.seed))
    return identity.digest(parts, 12)
