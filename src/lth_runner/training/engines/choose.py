"""The choice of the engine that trains a run, and of how many trainings at once."""

from __future__ import annotations

import gc
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lth_runner.masking import Masking
from lth_runner.problem.task import Task
from lth_runner.training import compiling, narrow
from lth_runner.training.engines.cuda_graph_trial import Trial, tried
from lth_runner.training.engines.distributed.engine import Distributed
from lth_runner.training.engines.distributed.lines import Leader
from lth_runner.training.engines.distributed.shardable import obstacle as sharding_obstacle
from lth_runner.training.engines.engine import Engine
from lth_runner.training.engines.graphed import Graphed
from lth_runner.training.engines.packed import (
    Packed,
    Sparse,
    lanes_that_fit,
    obstacle,
    sparse_obstacle,
)
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.recipe import Recipe
from lth_runner.values.errors import UserError
from lth_runner.values.ranks import Rank

BY_RANKS = ("distributed", "sharded")  # engines that train on all ranks together
OTHERS = 0.1  # of a device's memory: more than that and it is not this run's alone


@dataclass(frozen=True)
class Choice:
    """Says by what engine a run is trained, and why.

    The ``name`` is a part of what results are stored under, so that it follows from the config
    and the machine and not from what else the machine does. How many trainings at once does not
    change any: that follows from the memory that is free when the engine is made, and, where
    steps are recorded, from what a ``trial`` took.
    """

    name: str
    reason: str
    trial: Trial = field(default_factory=Trial)

    @property
    def facts(self) -> dict[str, Any]:
        """The choice as JSON has it, so that a continued run makes no other."""
        taken = {"lane_bytes": self.trial.lane, "evaluation_bytes": self.trial.evaluation}
        measured = taken if self.name == "graphed" else {}
        return {"engine": self.name, "reason": self.reason, **measured}

    @property
    def is_distributed(self) -> bool:
        """Whether several ranks train together."""
        return self.name.startswith(tuple(f"{engine}-" for engine in BY_RANKS))

    def engine(
        self, recipe: Recipe, task: Task, leader: Leader | None = None
    ) -> tuple[Engine, str]:
        """Makes the engine, for as many trainings at once as fit; and says what it is.

        ``leader``: of the ranks that train together, where several do.
        """
        if leader is not None and self.is_distributed:
            is_sharded = self.name.startswith("sharded-")
            return Distributed(leader, is_sharded=is_sharded), self.reason
        if self.name == "sequential":
            return Sequential(), self.reason
        free = free_memory(torch.device(task.device))
        if self.name == "graphed":
            num = self.trial.num_lanes(recipe, 0.8 * free)
        else:
            num = lanes_that_fit(task, recipe, 0.8 * free)
        made: dict[str, Engine] = {
            "packed": Packed(num), "sparse": Sparse(num), "graphed": Graphed(num),
        }  # fmt: skip
        told = f"up to {num} at once"
        if num < recipe.max_packed:
            told += f": what {free / 2**30:.1f} GiB of free memory take"
        return made[self.name], f"{told}; {self.reason}"


def choose(recipe: Recipe, task: Task, masking: Masking, rank: Rank | None = None) -> Choice:
    """Chooses the engine that was asked for, or, for ``auto``, the fastest that there is.

    It packs what can be packed, whatever the number of replicates, so that runs which share a
    training choose alike, and leaves pruned weights out where it can; on CUDA it records the
    steps of what cannot be packed. ``rank``: this process among several that are to train
    together. Raises UserError where an engine asked for cannot be had.
    """
    asked = recipe.engine
    if recipe.cut_dead:
        narrow.check(recipe, task, masking)
    if recipe.compile:
        compiling.check(recipe, task, masking)
    if asked in BY_RANKS or (rank is not None and rank.num > 1):
        return by_ranks(recipe, task, masking, rank)
    if not recipe.sync_batch_norm:
        raise UserError(
            f"train.sync_batch_norm=false is for train.engine=distributed or sharded, and this run "
            f"has train.engine={asked}: leave it out"
        )
    if asked == "sequential":
        return Choice("sequential", "asked for")
    if recipe.cut_dead or recipe.compile:
        key = "cut_dead" if recipe.cut_dead else "compile"
        return Choice("sequential", f"train.{key}=true goes one by one")
    if asked == "graphed":
        return _recorded(recipe, task, masking)
    unpacked = obstacle(task, masking, recipe)
    if unpacked is None and asked == "packed":
        return Choice("packed", "asked for")
    if unpacked is None:
        whole = sparse_obstacle(task, masking, recipe)
        if whole is None:
            return Choice("sparse", "layers of low density by their surviving weights")
        if asked == "sparse":
            raise _refusal(recipe, whole)
        return Choice("packed", f"not sparse: {whole}")
    if asked != "auto":
        raise _refusal(recipe, unpacked)
    if torch.device(task.device).type != "cuda":
        return Choice("sequential", f"not packed: {unpacked}")
    found = _recorded(recipe, task, masking)
    return Choice(found.name, f"not packed: {unpacked}; {found.reason}", found.trial)


def needs_trial(recipe: Recipe, task: Task, masking: Masking) -> bool:
    """Whether ``choose`` would try steps on a CUDA device, in order to choose."""
    if recipe.cut_dead or recipe.compile or torch.device(task.device).type != "cuda":
        return False
    return recipe.engine == "graphed" or (
        recipe.engine == "auto" and obstacle(task, masking, recipe) is not None
    )


def by_ranks(recipe: Recipe, task: Task, masking: Masking, rank: Rank | None) -> Choice:
    """Chooses to train by all ranks; raises UserError where they cannot."""
    if rank is None:
        raise UserError(
            f"train.engine={recipe.engine} needs ranks that torchrun starts: torchrun "
            "--nproc-per-node 2 -m lth_runner ..., with the same words as for lth-run"
        )
    if recipe.engine not in BY_RANKS:
        raise UserError(
            f"torchrun has started {rank.num} ranks, and train.engine={recipe.engine} trains in "
            "one process: set train.engine=distributed (or sharded, for a network that is too "
            "large for one device), or start lth-run without torchrun"
        )
    if recipe.batch_size < rank.num:
        raise UserError(
            f"train.batch_size={recipe.batch_size} is the batch of all ranks together, and there "
            f"are {rank.num}: give at least {rank.num}, or start fewer ranks"
        )
    own = [name for name, one in task.named_modules() if isinstance(one, nn.SyncBatchNorm)]
    if own:  # its sums wait for ranks that do not compute, as in an evaluation of rank 0's
        raise UserError(
            f"{own[0]} is torch's SyncBatchNorm, which waits for all ranks where one computes by "
            "itself: give a BatchNorm in its place, which train.sync_batch_norm=true has go by "
            "the samples of all ranks"
        )
    if recipe.engine == "sharded" and (reason := sharding_obstacle(task, masking, recipe)):
        raise UserError(
            f"train.engine=sharded: this training cannot be sharded: {reason}; "
            "train.engine=distributed trains it where the network fits a device"
        )
    machines = -(-rank.num // max(1, rank.num_local))
    name = f"{recipe.engine}-{rank.num}"
    return Choice(name, f"asked for; {rank.num} ranks, machines: {machines}")


def chosen_before(
    kept: Mapping[str, Any],
    recipe: Recipe,
    task: Task,
    masking: Masking,
    rank: Rank | None = None,
) -> Choice:
    """Returns the choice whose ``facts`` were kept beside a run.

    No trial is made again. Raises UserError where this machine has no such engine, as a machine
    without a C compiler has none for surviving weights, and for another number of ranks.
    """
    if recipe.engine in BY_RANKS or (rank is not None and rank.num > 1):
        choice, before = by_ranks(recipe, task, masking, rank), str(kept.get("engine"))
        if choice.name != before:
            raise UserError(
                f"this run was begun as {before}, and now it would be {choice.name}, which rounds "
                f"otherwise: start {_ranks_of(before)} again, or give another name=... for another "
                "run"
            )
        return choice
    trial = Trial(None, int(kept.get("lane_bytes", 0)), int(kept.get("evaluation_bytes", 0)))
    choice = Choice(str(kept.get("engine")), str(kept.get("reason", "as before")), trial)
    reason = _unavailable(choice.name, recipe, task, masking)
    if reason is not None:
        raise UserError(
            f"this run was begun with the engine {choice.name}, which cannot be had here: "
            f"{reason}. Go on where it was begun, or begin another run by choosing "
            "train.engine=packed or sequential"
        )
    return choice


def _ranks_of(name: str) -> str:
    engine, _, num = name.partition("-")
    return f"{num} ranks with train.engine={engine}" if num else f"it with train.engine={engine}"


def _unavailable(name: str, recipe: Recipe, task: Task, masking: Masking) -> str | None:
    if name == "sequential":
        return None
    if name in ("packed", "sparse"):
        unpacked = obstacle(task, masking, recipe)
        if unpacked is not None or name == "packed":
            return unpacked
        return sparse_obstacle(task, masking, recipe)
    if name == "graphed":
        return None if torch.device(task.device).type == "cuda" else "there is no CUDA device"
    return "this version knows none of that name"


def _recorded(recipe: Recipe, task: Task, masking: Masking) -> Choice:
    """Chooses the engine that records steps where a trial succeeds, else the sequential one.

    Raises UserError where it fails and the engine is asked for by name.
    """
    device = torch.device(task.device)
    if device.type != "cuda":
        trial = Trial(f"CUDA graphs need a CUDA device, and this run has device={device.type}")
    else:
        trial = tried(task, masking, recipe)
        gc.collect()
        torch.cuda.empty_cache()  # what the trial held
    if trial.obstacle is None:
        return Choice("graphed", "each step one CUDA graph", trial)
    if recipe.engine == "graphed":
        raise _refusal(recipe, trial.obstacle)
    if trial.is_out_of_memory and (held := _held_by_others(device)) > OTHERS:
        raise UserError(
            f"out of memory in the trial by which train.engine=auto chooses, while "
            f"{100 * held:.0f} % of the memory of {device} is held by other processes: the choice "
            "would depend on them. Wait until they end, or set train.engine=sequential"
        )
    return Choice("sequential", f"not graphed: {trial.obstacle}")


def _held_by_others(device: torch.device) -> float:
    """Measures the share of a CUDA device's memory that this process cannot have."""
    free, total = torch.cuda.mem_get_info(device)
    return (total - free - torch.cuda.memory_reserved(device)) / total


def _refusal(recipe: Recipe, reason: str) -> UserError:
    return UserError(
        f"train.engine={recipe.engine}: these trainings cannot be {recipe.engine}: {reason}; "
        "use train.engine=auto or sequential"
    )


def free_memory(device: torch.device) -> float:
    """Returns the bytes that can still be had on a device, without bound where nobody says."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    return 1024.0 * int(found[1]) if found else math.inf
