"""Which engine trains a run, and why."""

from __future__ import annotations

import gc
import math
import re
from pathlib import Path

import torch

from lth_runner.masking import Masking
from lth_runner.problem.task import Task
from lth_runner.training.engines.cuda_graph_trial import Trial, tried
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


def pick_engine(recipe: Recipe, task: Task, masking: Masking) -> tuple[Engine, str]:
    """The engine and why: ``auto`` packs what can be packed, whatever the number of replicates,

    so that runs which share a training choose alike, and leaves pruned weights out where it can;
    on CUDA it records the steps of what cannot be packed. Memory bounds how many at once. Raises
    UserError where an engine asked for cannot be had.
    """
    if recipe.engine == "sequential":
        return Sequential(), "asked for"
    if recipe.engine == "graphed":
        return _graphed(recipe, task, masking)
    unpacked = obstacle(task, masking, recipe)
    if unpacked is not None and recipe.engine != "auto":
        raise _refusal(recipe, unpacked)
    if unpacked is not None and torch.device(task.device).type == "cuda":
        engine, reason = _graphed(recipe, task, masking)
        return engine, f"not packed: {unpacked}; {reason}"
    if unpacked is not None:
        return Sequential(), f"not packed: {unpacked}"
    free = free_memory(torch.device(task.device))
    num = lanes_that_fit(task, recipe, 0.8 * free)
    reason = _so_many(num, recipe, free)
    if recipe.engine == "packed":
        return Packed(num), reason
    whole = sparse_obstacle(task, masking, recipe)
    if whole is None:
        return Sparse(num), f"{reason}, layers of low density by their surviving weights"
    if recipe.engine == "sparse":
        raise _refusal(recipe, whole)
    return Packed(num), f"{reason}; not sparse: {whole}"


def _graphed(recipe: Recipe, task: Task, masking: Masking) -> tuple[Engine, str]:
    """The engine that records steps and how many at once; where it cannot be, the sequential one

    and why, or, if it is asked for by name, UserError.
    """
    device = torch.device(task.device)
    if device.type != "cuda":
        trial = Trial(f"CUDA graphs need a CUDA device, and this run has device={device.type}")
    else:
        trial = tried(task, masking, recipe)
    if trial.obstacle is None:
        gc.collect()
        torch.cuda.empty_cache()  # what the trial held
        free = free_memory(device)
        num = trial.num_lanes(recipe, 0.8 * free)
        return Graphed(num), _so_many(num, recipe, free)
    if recipe.engine == "graphed":
        raise _refusal(recipe, trial.obstacle)
    return Sequential(), f"not graphed: {trial.obstacle}"


def _refusal(recipe: Recipe, reason: str) -> UserError:
    return UserError(
        f"train.engine={recipe.engine}: these trainings cannot be {recipe.engine}: {reason}; "
        "use train.engine=auto or sequential"
    )


def _so_many(num: int, recipe: Recipe, free: float) -> str:
    reason = f"up to {num} at once"
    if num < recipe.max_packed:
        reason += f": what {free / 2**30:.1f} GiB of free memory take"
    return reason


def free_memory(device: torch.device) -> float:
    """Bytes that can still be had on a device; without bound where nobody says."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    return 1024.0 * int(found[1]) if found else math.inf
