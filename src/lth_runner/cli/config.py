"""From the composed config to the parts it names: the only place where config becomes objects."""

from __future__ import annotations

import functools
import logging
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from torch import nn

from lth_runner.cli.signatures import check_targets
from lth_runner.control import Control, possible
from lth_runner.control import check as check_control
from lth_runner.experiment import Experiment
from lth_runner.masking import Masking
from lth_runner.probe import Probe
from lth_runner.problem.data import Dataset
from lth_runner.problem.fits import check_fits
from lth_runner.problem.objective import smoothed
from lth_runner.problem.requirements import check as check_part
from lth_runner.problem.task import Task
from lth_runner.runs.report.published import published
from lth_runner.search import Search
from lth_runner.search.rewind import Rewind
from lth_runner.training.engines.choose import pick_engine
from lth_runner.training.engines.engine import Engine
from lth_runner.training.job import GENERATION
from lth_runner.training.recipe import Recipe
from lth_runner.values import identity
from lth_runner.values import state as states
from lth_runner.values.errors import UserError, nearest

ROOT = {
    "name", "seed", "replicates", "device", "paths", "dataset", "model", "pruner", "rewind",
    "max_samples", "store", "threads", "train", "control", "probe", "record", "report",
    "objective", "origin", "coordinates", "covers",
}  # fmt: skip
KEEP = ("all", "tickets", "last")  # of the Store, once a run is done
WANDB = ("mode", "project", "entity", "group")
WANDB_MODES = ("offline", "online", "disabled")
PRUNER_KEYS = {"search", "masking", "budgets", "biases"}  # what is read here
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Built:
    """What a config stands for."""

    experiment: Experiment
    recipe: Recipe
    run_id: str
    probes: str
    outputs: Path
    resolved: Mapping[str, Any]
    engine: Engine
    engine_reason: str
    threads: int


def build(config: DictConfig) -> Built:
    """Checks a config as a whole, then builds its parts; raises UserError before any training."""
    resolved = resolve(config)
    device = pick_device(resolved["device"])
    check_targets(resolved, OmegaConf.to_container(config, resolve=False))
    recipe: Recipe = make(resolved["train"])
    search: Search = make(resolved["pruner"]["search"])
    masking: Masking = make(resolved["pruner"]["masking"])
    controls: dict[str, Control] = {k: make(v) for k, v in resolved["control"].items()}
    controls = possible(controls)
    probes: list[Probe] = [make(node) for node in resolved["probe"].values()]
    data: Dataset = make(resolved["dataset"]).limited(resolved["max_samples"]).to(device)
    biases = resolved["pruner"].get("biases", False)
    first = Task(
        _model_factory(resolved["model"]), data, resolved["seed"], device, biases,
        objective=make(resolved["objective"]),
        origin=make_or_none(resolved["origin"]),
        coordinates=make_or_none(resolved["coordinates"]),
        covers=make(resolved["covers"]),
    )  # fmt: skip
    check_fits(first)
    data.stream(recipe.batch_size, first.seed)  # refuses a batch larger than the data
    clock = recipe.clock(data.epoch(recipe.batch_size))
    recipe.check(clock, device)
    search.check(first, clock)
    rewind = getattr(search, "rewind", None)  # of a single round nothing is rewound
    if isinstance(rewind, Rewind) and search.num_rounds > 1:
        rewind.check_rate(recipe.rate, clock)
    for control in controls.values():
        check_control(control, first, clock)
    for probe in probes:
        check_part(probe, first)
    smoothed(first.objective, recipe.label_smoothing)
    tasks = [first.with_seed(first.seed + index) for index in range(resolved["replicates"])]
    experiment = Experiment(tasks, search, masking, controls, probes)
    engine, reason = pick_engine(recipe, first, masking)
    return Built(
        experiment=experiment,
        recipe=recipe,
        run_id=run_id(experiment, recipe, engine),
        probes=identity.digest(identity.describe(probes)),
        outputs=Path(resolved["paths"]["outputs"]),
        resolved=resolved,
        engine=engine,
        engine_reason=reason,
        threads=pick_threads(resolved["threads"], first, recipe),
    )


def resolve(config: DictConfig) -> dict[str, Any]:
    """The config as plain values, interpolations filled in; unknown keys are refused."""
    for key in map(str, config):
        if key not in ROOT:
            raise UserError(f"unknown key {key!r} in the config: {nearest(key, ROOT)}")
    if absent := sorted(ROOT - set(map(str, config))):
        raise UserError(f"the config lacks {', '.join(absent)}: take the ~ away that removes it")
    _check_pruner(config)
    _warn_of_unused_rewinding(config)
    try:
        plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UserError(
            f"{error.full_key} is not set: give it a value on the command line"
        ) from error
    except OmegaConfBaseException as error:
        raise UserError(f"the config cannot be resolved: {_first_line(error)}") from error
    assert isinstance(plain, dict)
    for key, least in (("seed", 0), ("replicates", 1)):
        value = plain[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise UserError(f"{key}={value!r} must be a whole number of at least {least}")
    for key, value in plain["paths"].items():
        if not isinstance(value, str) or not value:
            raise UserError(f"paths.{key}={value!r} must be the path of a folder")
    if not isinstance(biases := plain["pruner"].get("biases", False), bool):
        raise UserError(f"pruner.biases={biases!r}: give true or false")
    _check_tolerance(plain["report"].get("tolerance"))
    if (series := plain["report"].get("published")) is not None:
        published(str(series))
    if plain["name"] is None or not re.fullmatch(r"[\w.+-]+", str(plain["name"])):
        raise UserError(f"name={plain['name']!r} names a folder: use letters, digits, _ - + and .")
    for group in ("control", "probe"):
        for key, node in plain[group].items():
            if not isinstance(node, dict) or "_target_" not in node:
                raise UserError(
                    f"{group}.{key} belongs to an option of {group} that is not chosen here: "
                    f"choose it, or leave {group}.{key} out"
                )
    keep = plain["store"].get("keep")
    if keep not in KEEP:
        raise UserError(f"store.keep={keep!r}: {nearest(str(keep), KEEP)}")
    wandb = plain["record"]["wandb"]
    for key in wandb:
        if key not in WANDB:
            raise UserError(f"record.wandb.{key} is not an option: {nearest(str(key), WANDB)}")
    mode = wandb.get("mode")
    if mode not in WANDB_MODES:
        raise UserError(f"record.wandb.mode={mode!r}: {nearest(str(mode), WANDB_MODES)}")
    return {str(key): value for key, value in plain.items()}


def _check_tolerance(tolerance: Any) -> None:
    is_number = isinstance(tolerance, (int, float)) and not isinstance(tolerance, bool)
    share = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", tolerance) if isinstance(tolerance, str) else None
    if not (is_number and 0 <= tolerance < math.inf) and not (share and float(share[1]) < 100):
        raise UserError(
            f"report.tolerance={tolerance!r} must be a difference of the headline measure, 0.005 "
            "for half a point of accuracy, or a share of the dense network's value, 2%"
        )


def _check_pruner(config: DictConfig) -> None:
    pruner = config.pruner
    raw = OmegaConf.to_container(pruner, resolve=False)
    used = set(re.findall(r"\$\{pruner\.(\w+)", str(raw)))
    assert isinstance(raw, dict)
    for key in map(str, raw):
        if key not in PRUNER_KEYS | used:
            raise UserError(f"pruner.{key} is used by nothing: {nearest(key, used | PRUNER_KEYS)}")
    budgets = raw.get("budgets", {})
    offered = [str(scope) for scope, budget in budgets.items() if budget is not None]
    if "scope" in raw and raw["scope"] not in offered:
        closed = raw["scope"] in budgets
        raise UserError(
            f"pruner.scope={raw['scope']!r}"
            + (" is not for this pruner, whose masks would not keep to it" if closed else "")
            + f": {nearest(str(raw['scope']), offered)}"
        )
    if raw.get("rates") and raw.get("scope") != "layerwise":
        raise UserError("pruner.rates are rates by layer: they need pruner.scope=layerwise")
    if raw.get("densities") and raw.get("scope") != "given":
        raise UserError("pruner.densities are densities by layer: they need pruner.scope=given")


def _warn_of_unused_rewinding(config: DictConfig) -> None:
    pruner = str(OmegaConf.to_container(config.pruner, resolve=False))
    if "${rewind}" in pruner and config.pruner.get("retrain", True):
        return
    own = {field.name: field.default for field in fields(Rewind)}
    unused = [
        f"rewind.{key}={value}"
        for key, value in config.rewind.items()
        if key in own
        and f"${{rewind.{key}}}" not in pruner
        and (value or None) != (own[str(key)] or None)
    ]
    if unused:
        log.warning(
            "warning: this pruner does not rewind that way: %s changes nothing here",
            ", ".join(unused),
        )


def make(node: Mapping[str, Any]) -> Any:
    """Builds one part; a UserError raised in its making comes out as it is."""
    try:
        return instantiate(dict(node), _convert_="all")
    except InstantiationException as error:
        raise _root_cause(error) from error


def make_or_none(node: Mapping[str, Any] | None) -> Any:
    """Builds one part; None where the config has none."""
    return None if node is None else make(node)


def _root_cause(error: InstantiationException) -> UserError:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    if isinstance(cause, UserError):
        return cause
    return UserError(_first_line(error.__cause__ or error))


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{lines[0] if lines else ''} ({type(error).__name__})".strip()


def _model_factory(node: Mapping[str, Any]) -> Callable[[], nn.Module]:
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    if any(isinstance(value, dict) and "_target_" in value for value in arguments.values()):
        # the parts of a network are built anew with each network, none shared between replicates
        return functools.partial(_nested_model, node=node, of=get_object(node["_target_"]))
    return functools.partial(get_object(node["_target_"]), **arguments)


def _nested_model(*, node: Mapping[str, Any], of: Callable[..., nn.Module]) -> nn.Module:
    """A network whose arguments are parts; ``of`` puts its class into the identity."""
    return make(node)


def pick_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU; a device asked for by name must be there."""
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return torch.device(next(k for k in ("cuda", "mps", "cpu") if available[k]))
    kind = str(name).split(":")[0]
    if kind not in available:
        raise UserError(
            f"device={name!r}: accepted: auto, cpu, cuda (a GPU; cuda:1 is the second), mps"
        )
    if not available[kind]:
        raise UserError(
            f"device={name} was asked for, but this machine (or its torch {torch.__version__}) "
            f"has no {kind}: use device=auto or device=cpu"
        )
    device = torch.device(name)
    if kind == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise UserError(f"device={name}: there are {torch.cuda.device_count()} CUDA devices")
    return device


ALL_THREADS = torch.get_num_threads()  # the cores, or what OMP_NUM_THREADS says
MOST_THREADS = max(1024, os.cpu_count() or 1)  # far beyond, a system ends the process that asks
SMALL_WORK = 10_000_000  # products of one forward step below which a second thread costs more


def pick_threads(threads: int | str, task: Task, recipe: Recipe) -> int:
    """A number of CPU threads; ``auto`` decides by the network, so that reruns decide alike."""
    if threads == "auto":
        convolves = any(value.ndim > 2 for value in task.dense().values())
        small = task.dense().num_prunable * recipe.batch_size < SMALL_WORK
        return 1 if small and not convolves else ALL_THREADS
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise UserError(f"threads={threads!r}: give a whole number above 0, or auto")
    if threads > MOST_THREADS:
        raise UserError(
            f"threads={threads}: this machine has {os.cpu_count()} cores: give at most "
            f"{MOST_THREADS}, or auto"
        )
    return threads


def run_id(experiment: Experiment, recipe: Recipe, engine: Engine) -> str:
    """The hash of all that can change a result: the same command, the same folder.

    Of the parts and not of the config: other data under the same path are another run, and so is
    an edited network; where results are written, or how often, is no part of it.
    """
    first = experiment.tasks[0]
    parts = {
        "generation": GENERATION,
        "task": first.identity,
        "device": torch.device(first.device).type,
        "engine": engine.name,
        "seeds": [task.seed for task in experiment.tasks],
        "recipe": identity.describe(recipe),
        # by their values: a network that loads them itself, or an origin, may bring others
        "starts": [states.fingerprint(task.init()) for task in experiment.tasks],
        "search": identity.describe(experiment.search),
        "masking": identity.describe(experiment.masking),
        "controls": identity.describe(experiment.controls),
    }
    return identity.digest(parts, 12)
