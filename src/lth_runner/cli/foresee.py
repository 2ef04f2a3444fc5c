"""A run that waits for another: all of it that can be built and checked before that is there."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from lth_runner.cli.build import build, checked
from lth_runner.cli.loading import untold
from lth_runner.control import Control
from lth_runner.masking import Masking
from lth_runner.parts.make import make, part
from lth_runner.parts.seams import check_seam
from lth_runner.parts.task import build_task
from lth_runner.probe import Probe
from lth_runner.problem.coordinates import stock_name
from lth_runner.problem.fits import check_fits
from lth_runner.problem.objective import smoothed
from lth_runner.problem.requirements import check as check_demands
from lth_runner.problem.task import Task
from lth_runner.runs.awaited import AwaitedRun, AwaitedTickets
from lth_runner.search import Search
from lth_runner.study.flow.awaited import FLOW, GENERATED, AwaitedPairs, foreseen
from lth_runner.study.flow.generated import check_condition, check_index
from lth_runner.training.recipe import Recipe
from lth_runner.training.trainer import clock_of
from lth_runner.training.trial import try_a_step
from lth_runner.values.errors import UserError

LAID = ("into", "fresh", "unused")  # keys of an origin that say where its tensors go
GIVEN_TICKETS = "lth_runner.runs.given_tickets.GivenTickets"


def foresee(
    values: Mapping[str, Any], called: str, later: Mapping[str, AwaitedRun | None]
) -> AwaitedRun | None:
    """Builds the parts of a checked config but for results of runs to come, and foresees the run.

    ``later`` maps the text that stands in the config for each of those runs to what is known of it.
    An origin or a probe that names one is left out. Tickets of one are replaced by what stands for
    them; where nothing is known of it, the search is left out, with what needs it. Raises UserError
    as ``build``. Gives what is known of this run, ``called`` so in messages; None where nothing is.
    """
    known = {n: one for n, one in values["probe"].items() if not _names_one(one, later)}
    values = {**values, "probe": known}  # others look back to a run that is not there yet
    if _names_one(values["dataset"], later):
        if (stand_in := _flow(values["dataset"], later)) is None:
            return None
        values = {**values, "dataset": stand_in}
    awaited = {key for key in ("origin", "pruner") if _names_one(values[key], later)}
    origin = _origin(values["origin"], later) if "origin" in awaited else None
    if not awaited:
        parts = build(values)
        return _foreseen(called, parts.experiment.tasks, parts.experiment.search)
    run = _run_of_tickets(values["pruner"]["search"], later)
    if awaited == {"pruner"} and run is not None:
        with untold():
            experiment, _ = checked(
                values, lambda task: _foreseeing(values["pruner"]["search"], run, task)
            )
        return _foreseen(called, experiment.tasks, experiment.search)
    recipe: Recipe = part(values, "train", Recipe)
    part(values, "pruner.masking", Masking)
    for name in values["control"]:
        part(values, f"control.{name}", Control)
    probes: list[Probe] = [part(values, f"probe.{name}", Probe) for name in values["probe"]]
    task = build_task({**values, **dict.fromkeys(awaited & {"origin"})})
    if origin is not None:
        _lay(origin, values["origin"], dataclasses.replace(task, coordinates=None).module())
    check_fits(task)
    task.data.stream(recipe.batch_size, task.seed)
    clock = clock_of(task, recipe)
    recipe.check(clock, torch.device(task.device))
    search: Search | None = None
    if "pruner" not in awaited:
        search = part(values, "pruner.search", Search)
        search.check(task, clock, recipe.rate)
    smoothed(task.objective, recipe.label_smoothing)
    try_a_step(task, recipe)
    for probe in probes:
        check_demands(probe, task)
    tasks = [task.with_seed(task.seed + index) for index in range(values["replicates"])]
    return None if search is None else _foreseen(called, tasks, search)


def _names_one(node: Any, later: Mapping[str, AwaitedRun | None]) -> bool:
    """Whether a part of a config names a run to come."""
    return any(text in repr(node) for text in later)


def _foreseen(called: str, tasks: Sequence[Task], search: Search) -> AwaitedRun | None:
    """Gives what is known of a run; None where what it trains are no weights of the network."""
    if tasks[0].coordinates is not None:
        return None
    return AwaitedRun.of(called, tasks, search.num_rounds, search.num_dense)


def _origin(node: Mapping[str, Any], later: Mapping[str, AwaitedRun | None]) -> AwaitedRun | None:
    """Finds the run of an origin; raises UserError for a round or a seed that it will not have."""
    run = later.get(str(node.get("run")))
    if run is not None:
        run.check("origin", round=node.get("round"), seed=node.get("seed"))
    return run


def _lay(run: AwaitedRun, node: Mapping[str, Any], stock: nn.Module) -> None:
    """Writes zeros in place of weights to come; raises UserError where they will not fit."""
    if node.get("_target_") != GENERATED:
        run.lay(stock, **{key: node.get(key) for key in LAID})
        return
    samples = getattr(run.task.data, "train", None)
    if not isinstance(samples, AwaitedPairs):
        raise UserError(
            f"origin.run: {run.called} trains no flow: name a stage of dataset=weight_flow"
        )
    check_index(node.get("index", 0))
    check_condition(node.get("condition"), samples.num_conditions)
    samples.lay(stock, f"a network of {run.called}", node.get("fresh") or ())


def _flow(node: Mapping[str, Any], later: Mapping[str, AwaitedRun | None]) -> dict[str, Any] | None:
    """Gives what stands for the networks of runs to come; None where nothing is known of these."""
    if node.get("_target_") != FLOW:
        raise UserError("dataset names a run to come: only dataset=weight_flow learns from one")
    names = [node["run"]] if isinstance(node["run"], str) else list(node["run"])
    if any(name in later and later[name] is None for name in names):
        return None
    return foreseen(node, later)


def _run_of_tickets(
    node: Mapping[str, Any], later: Mapping[str, AwaitedRun | None]
) -> AwaitedRun | None:
    """Finds the run to come whose tickets a search is given; None where it is not known."""
    tickets = node.get("tickets")
    if not isinstance(tickets, Mapping) or tickets.get("_target_") != GIVEN_TICKETS:
        return None
    return later.get(str(tickets.get("ticket")))


def _foreseeing(node: Mapping[str, Any], run: AwaitedRun, task: Task) -> Search:
    """Builds a search whose given tickets are those of a run to come."""
    options = {
        key: one for key, one in node["tickets"].items() if key not in ("_target_", "ticket")
    }
    tickets = AwaitedTickets(run, tuple(map(stock_name, task.prunable)), **options)
    search: Search = dataclasses.replace(make({**node, "tickets": None}), tickets=tickets)
    check_seam("pruner.search", search, Search)
    return search
