"""The second stage of a run builds the parts that its config names, and checks each."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from torch import nn

from lth_runner.cli.messages import first_line, raised_at
from lth_runner.cli.seams import check_members, check_seam
from lth_runner.control import Control, possible
from lth_runner.control import check as check_control
from lth_runner.experiment import Experiment
from lth_runner.masking import Masking
from lth_runner.masking import check as check_masking
from lth_runner.probe import Probe
from lth_runner.problem.coordinates import Coordinates
from lth_runner.problem.covers import Covers
from lth_runner.problem.data import Dataset
from lth_runner.problem.fits import check_fits
from lth_runner.problem.objective import Objective, smoothed
from lth_runner.problem.origin import Origin
from lth_runner.problem.requirements import check as check_demands
from lth_runner.problem.requirements import check_layers, draws_anew
from lth_runner.problem.starts import check_starts
from lth_runner.problem.task import Task
from lth_runner.runs.evidence.tolerance import Tolerance
from lth_runner.search import Search
from lth_runner.search.search import check_schedules
from lth_runner.training.job import GENERATION
from lth_runner.training.recipe import Recipe
from lth_runner.training.trainer import clock_of
from lth_runner.training.trial import try_a_step
from lth_runner.values import identity
from lth_runner.values import state as states
from lth_runner.values.errors import UserError


@dataclass(frozen=True)
class Parts:
    """The parts that a config stands for."""

    values: Mapping[str, Any]  # the config itself
    experiment: Experiment
    recipe: Recipe
    run_id: str
    probes: str  # digest

    @property
    def task(self) -> Task:
        """The first replicate's task, which stands for all where the seed does not matter."""
        return self.experiment.tasks[0]

    @property
    def outputs(self) -> Path:
        """The folder of run folders and of the Store."""
        return Path(self.values["paths"]["outputs"])


def build(values: Mapping[str, Any]) -> Parts:
    """Builds the parts of a checked config, and has each look at the problem it is to serve.

    Raises UserError for what cannot be built, or does not fit the data, the network, the clock or
    the machine.
    """
    recipe: Recipe = part(values, "train", Recipe)
    search: Search = part(values, "pruner.search", Search)
    masking: Masking = part(values, "pruner.masking", Masking)
    controls = {name: part(values, f"control.{name}", Control) for name in values["control"]}
    controls = possible(controls)
    probes: list[Probe] = [part(values, f"probe.{name}", Probe) for name in values["probe"]]
    first = build_task(values)
    tasks = [first.with_seed(first.seed + index) for index in range(values["replicates"])]
    experiment = Experiment(tasks, search, masking, controls, probes)
    check_parts(experiment, recipe)
    Tolerance.parse(values["report"].get("tolerance"), first.objective.measures[0])
    return Parts(
        values=values,
        experiment=experiment,
        recipe=recipe,
        run_id=run_id(experiment, recipe),
        probes=identity.digest(identity.describe(probes)),
    )


def build_task(values: Mapping[str, Any]) -> Task:
    """Builds what is to be learned, from where and in which numbers, for the first replicate."""
    device = pick_device(values["device"])
    found: Dataset = make(values["dataset"])
    check_members("dataset", found, Dataset)
    data = found.limited(values["max_samples"]).to(device)
    task = Task(
        model=_model_factory(values["model"]),
        data=data,
        seed=values["seed"],
        device=device,
        biases=values["pruner"].get("biases", False),
        objective=part(values, "objective", Objective),
        origin=part(values, "origin", Origin) if values["origin"] else None,
        coordinates=part(values, "coordinates", Coordinates) if values["coordinates"] else None,
        covers=part(values, "covers", Covers),
    )
    try:
        task.init()
    except UserError:
        raise
    except Exception as error:  # a network of a user's own may raise anything
        raise UserError(
            f"the model cannot be built: {first_line(error)}{raised_at(error)}"
        ) from error
    return task


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
    check_masking(experiment.masking, clock)
    for part in (experiment.search, experiment.masking, *experiment.controls.values()):
        check_layers(part, task)
        check_schedules(part, task)
    for control in experiment.controls.values():
        check_control(control, task, clock, recipe.rate)
    for probe in experiment.probes:
        check_demands(probe, task)
    smoothed(task.objective, recipe.label_smoothing)  # refuses what it cannot smooth
    try_a_step(task, recipe)


def make(node: Mapping[str, Any]) -> Any:
    """Builds one part; a UserError raised in its making comes out as it is."""
    try:
        return instantiate(dict(node), _convert_="all")
    except InstantiationException as error:
        raise _root_cause(error) from error


def part(values: Mapping[str, Any], key: str, seam: type) -> Any:
    """Builds the part at a dotted key, and checks that it is what its place asks for."""
    node: Any = values
    for name in key.split(".", 1):  # a control's or a probe's name may hold dots
        node = node[name]
    made = make(node)
    check_seam(key, made, seam)
    return made


def _root_cause(error: InstantiationException) -> UserError:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    if isinstance(cause, UserError):
        return cause
    return UserError(first_line(error.__cause__ or error))


def _model_factory(node: Mapping[str, Any]) -> Callable[[], nn.Module]:
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    if any(isinstance(value, dict) and "_target_" in value for value in arguments.values()):
        # the parts of a network are built anew with each network, none shared between replicates
        return functools.partial(_nested_model, node=node, of=get_object(node["_target_"]))
    return functools.partial(get_object(node["_target_"]), **arguments)


def _nested_model(*, node: Mapping[str, Any], of: Callable[..., nn.Module]) -> nn.Module:
    """Builds a network whose arguments are parts; ``of`` puts its class into the identity."""
    return make(node)


def pick_device(name: str) -> torch.device:
    """Picks the device: ``auto`` takes CUDA, then MPS, then the CPU.

    Raises UserError where one that is asked for by name is not there.
    """
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return torch.device(next(k for k in ("cuda", "mps", "cpu") if available[k]))
    found = re.fullmatch(r"(cpu|cuda|mps)|(cuda):\d{1,3}", str(name), re.ASCII)
    if found is None:
        raise UserError(
            f"device={name!r}: accepted: auto, cpu, cuda (a GPU; cuda:1 is the second), mps"
        )
    kind = found[1] or found[2]
    if not available[kind]:
        raise UserError(
            f"device={name} was asked for, but this machine (or its torch {torch.__version__}) "
            f"has no {kind}: use device=auto or device=cpu"
        )
    device = torch.device(name)
    if kind == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise UserError(f"device={name}: there are {torch.cuda.device_count()} CUDA devices")
    return device


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
