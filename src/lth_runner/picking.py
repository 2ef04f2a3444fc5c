"""Which engine trains a run, and why."""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch

from lth_runner.engine import Engine, Sequential
from lth_runner.errors import UserError
from lth_runner.masking import Masking
from lth_runner.packed import Packed, Sparse, lanes_that_fit, obstacle, sparse_obstacle
from lth_runner.task import Task
from lth_runner.train import Recipe


def pick_engine(recipe: Recipe, task: Task, masking: Masking) -> tuple[Engine, str]:
    """The engine and why: ``auto`` packs what can be packed, whatever the number of replicates,

    so that runs which share a training choose alike, and leaves pruned weights out where it can;
    memory bounds how many at once. Raises UserError where an engine asked for cannot be had.
    """
    if recipe.engine == "sequential":
        return Sequential(), "asked for"
    together = obstacle(task, masking, recipe)
    alone = together or sparse_obstacle(task, masking, recipe)
    refused = {"packed": together, "sparse": alone}.get(recipe.engine)
    if refused is not None:
        raise UserError(
            f"train.engine={recipe.engine}: these trainings cannot be {recipe.engine}: {refused}; "
            "use train.engine=auto or sequential"
        )
    if together is not None:
        return Sequential(), f"not packed: {together}"
    free = free_memory(torch.device(task.device))
    num = lanes_that_fit(task, recipe, 0.8 * free)
    reason = f"up to {num} at once"
    if num < recipe.max_packed:
        reason += f": what {free / 2**30:.1f} GiB of free memory take"
    if recipe.engine == "packed":
        return Packed(num), reason
    if alone is not None:
        return Packed(num), f"{reason}; not sparse: {alone}"
    return Sparse(num), f"{reason}, layers of low density by their surviving weights"


def free_memory(device: torch.device) -> float:
    """Bytes that can still be had on a device; without bound where nobody says."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    return 1024.0 * int(found[1]) if found else math.inf
