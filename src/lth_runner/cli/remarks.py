"""Remarks that a run makes on itself, before it starts or when it is found done."""

from __future__ import annotations

import logging
import shlex

from lth_runner.cli.build import Parts
from lth_runner.cli.forecast import rows_by_round
from lth_runner.problem.data import Data, SampledData
from lth_runner.problem.data.repeated import repeated
from lth_runner.problem.models import HuggingFace
from lth_runner.runs.folder import read_flat_config
from lth_runner.runs.record import RunDescription, coverage
from lth_runner.values.listed import listed

MANY = 0.01  # of the test samples; published data sets have a few
OFF = "disabled"  # a mode in which a tracker is sent nothing
log = logging.getLogger(__name__)


def remark(parts: Parts, run: RunDescription) -> None:
    """Logs what is shrunk, where data come from, what a mask covers, that no control will run."""
    _on_shrinking(parts, run)
    _on_origin(parts)
    data = parts.task.data
    if isinstance(data, SampledData) and data.told:
        log.info("data     %s", data.told)
    if isinstance(data, Data) and (share := repeated(data)) >= MANY:
        log.warning(
            "data     %.3g %% of the test samples are training samples too, to the bit: what is "
            "reached on them says nothing about new ones",
            100 * share,
        )
    log.info("prunable %s", coverage(run.problem))
    if parts.memory.is_large:
        log.info("memory   %s", parts.memory.told)
    _on_no_control(parts)


def not_applied(run: RunDescription) -> None:
    """Logs that a finished run is shown nowhere else than before, where the command asks for it."""
    before = read_flat_config(run.folder)
    had = {name for name in before.get("record", ()) if before.get(_mode(name)) != OFF}
    for name, asked in run.config["record"].items():
        mode = asked.get("mode")
        if mode == OFF or (name in had and mode == before.get(_mode(name))):
            continue
        told = f"record={name}" if mode is None else f"{_mode(name)}={mode}"
        was = f" ({before.get(_mode(name))})" if _mode(name) in before else ""
        log.info(
            "record   %s is not applied, for this run is done%s: without its rounds.jsonl the same "
            "command writes it again from the Store, for %s too",
            told, was, name,
        )  # fmt: skip


def _mode(name: str) -> str:
    return f"record.{name}.mode"


def _on_shrinking(parts: Parts, run: RunDescription) -> None:
    given = [word for word in shlex.split(run.command) if word.startswith("train.length=")]
    if given and parts.recipe.shrink_to is not None:
        log.info(
            "length   %s is shrunk to train.shrink_to=%s, which +scale=smoke sets: "
            "train.shrink_to=null trains the whole of it",
            given[-1], parts.recipe.shrink_to,
        )  # fmt: skip


def _on_origin(parts: Parts) -> None:
    """Says which weights are no origin's where a part of the config brings pretrained ones."""
    task = parts.task
    if isinstance(task.model, HuggingFace) and task.origin is None:
        log.info(
            "origin   none: all weights are drawn by the seed; origin=hf takes pretrained ones"
        )
    if task.remainders.drawn:
        log.info("origin   lacks %s: drawn by the seed", listed(task.remainders.drawn))
    if task.remainders.unused:
        log.info("origin   %s: left out", listed(task.remainders.unused))
    own, theirs = getattr(task.data, "class_names", ()), task.remainders.classes
    if own and theirs and own != theirs:
        log.info(
            "origin   its head's classes %s are taken for %s: %s draws it anew",
            listed(theirs), listed(own), task.remainders.fresh_head,
        )  # fmt: skip


def _on_no_control(parts: Parts) -> None:
    if parts.experiment.controls and max(rows_by_round(parts.experiment)) == 1:
        can = "retrain" in parts.values["pruner"]
        log.info(
            "control  none will run (%s): this pruner finds its mask in its only training, and "
            "there is no ticket to stand beside%s",
            ", ".join(parts.experiment.controls),
            "; pruner.retrain=true trains one" if can else "",
        )
