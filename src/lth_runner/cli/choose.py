"""The third stage of a run chooses by what engine it is trained, and with how many threads."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lth_runner.cli.build import Parts
from lth_runner.runs.folder import ENGINE, read_engine, read_status, write_facts
from lth_runner.training.engines.choose import Choice, choose, chosen_before, needs_trial
from lth_runner.values.ranks import Rank

log = logging.getLogger(__name__)
ALL_THREADS = torch.get_num_threads()  # the cores, or what OMP_NUM_THREADS says
SMALL_WORK = 10_000_000  # products of one forward step below which a second thread costs more


def threads_of(parts: Parts) -> int:
    """Returns a number of CPU threads; ``auto`` decides by the network: reruns decide alike."""
    threads = parts.values["threads"]
    if threads != "auto":
        return int(threads)
    dense = parts.task.dense()
    convolves = any(value.ndim > 2 for value in dense.values())
    small = dense.num_prunable * parts.recipe.batch_size < SMALL_WORK
    return 1 if small and not convolves else ALL_THREADS


def engine_of(parts: Parts, folder: Path, rank: Rank | None = None) -> Choice:
    """Returns the engine that a run was begun with, or chooses one and keeps it in its folder.

    Another load of the machine, or another outcome of a trial, would choose otherwise, and give
    the same trainings other names. ``rank``: this process among several that train together.
    """
    recipe, task, masking = parts.recipe, parts.task, parts.experiment.masking
    if kept := _kept_engine(folder):
        return chosen_before(kept, recipe, task, masking, rank)
    choice = choose(recipe, task, masking, rank)
    folder.mkdir(parents=True, exist_ok=True)
    write_facts(folder / ENGINE, choice.facts)
    return choice


def engine_name(parts: Parts, folder: Path) -> str | None:
    """Returns the engine that a run was begun with, or would be; nothing is tried or written.

    None where a trial on the device is to choose.
    """
    if kept := read_engine(folder) or read_status(folder).get("engine"):
        return str(kept.get("engine"))
    recipe, task, masking = parts.recipe, parts.task, parts.experiment.masking
    if needs_trial(recipe, task, masking):
        return None
    return choose(recipe, task, masking, Rank.of(os.environ)).name


def _kept_engine(folder: Path) -> Mapping[str, Any]:
    """Reads the engine that a run was begun with; the status holds it too, against damage."""
    kept, vouched = read_engine(folder), read_status(folder).get("engine")
    if not isinstance(vouched, Mapping) or not vouched or kept == vouched:
        return kept
    write_facts(folder / ENGINE, vouched)
    log.warning("%s, not what was written (damaged or missing): written again", folder / ENGINE)
    return vouched
