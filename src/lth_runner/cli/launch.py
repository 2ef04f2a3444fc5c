"""One ``lth-run``, from a composed config to a finished run folder, whatever happens on the way.

Four stages, one after another: the config is checked as plain values, its parts are built and look
at their problem, the engine is chosen, and then the run is run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from lth_runner.cli.build import Parts, build
from lth_runner.cli.check import check
from lth_runner.cli.choose import engine_of, threads_of
from lth_runner.cli.environment import environment
from lth_runner.cli.expected import expect
from lth_runner.cli.forecast import num_trainings, rows_by_round, warn_if_slow
from lth_runner.cli.loading import uncollected
from lth_runner.cli.ranks import muster
from lth_runner.cli.remarks import not_applied, remark
from lth_runner.cli.stopping import nobody_reads, stop_requested
from lth_runner.cli.trackers import trackers
from lth_runner.cli.view import Terminal, View
from lth_runner.experiment import run as run_experiment
from lth_runner.problem.retained import check_retained
from lth_runner.problem.task import Task
from lth_runner.runs.folder import DIVERGED, DONE, ENDED, read_status
from lth_runner.runs.judged_by import REPORT, changed, is_half_judged, judge_by
from lth_runner.runs.measure import ending
from lth_runner.runs.quantities import size
from lth_runner.runs.record import (
    Record,
    RunDescription,
    RunFolder,
    Sink,
    problem_facts,
)
from lth_runner.runs.report import stale, write
from lth_runner.runs.seal import damaged
from lth_runner.runs.status.reading import read_points
from lth_runner.runs.status.store_care import remove, survey
from lth_runner.store.lease import COLD_SECONDS, Lease, is_elsewhere
from lth_runner.store.store import Store
from lth_runner.training.engines.choose import BY_RANKS, Choice, by_ranks
from lth_runner.training.engines.distributed.lines import Leader
from lth_runner.training.pace import Interrupted, Pace
from lth_runner.training.trainer import Trainer, clock_of
from lth_runner.values.errors import UnderWay
from lth_runner.values.memory import give_back
from lth_runner.values.pieces import clear_pieces

TERMINAL = Terminal()
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """How a run has ended: the headline of its last tickets, and whether any ticket diverged.

    The headline is the mean over replicates on the test split, None where all have diverged.
    """

    value: float | None
    diverged: bool
    folder: Path


def execute(
    config: DictConfig,
    command: str,
    choices: Mapping[str, Any] | None = None,
    view: View = TERMINAL,
    leader: Leader | None = None,
) -> Ended:
    """Runs a config, continues it or finds it done.

    ``choices``: the options that the config is composed of, for whoever reads the run folder.
    ``view``: what shows it to whoever has asked for it. ``leader``: has the lines to other ranks,
    where several processes train together.
    """
    return carry_out(prepared(config), command, choices or {}, view, leader)


def prepared(config: DictConfig) -> Parts:
    """Checks a config and builds what it names; raises UserError for what cannot be run."""
    with uncollected():
        values = check(config)
        trackers(values)  # what is not installed is told before data are read
        return build(values)


def carry_out(
    parts: Parts,
    command: str,
    choices: Mapping[str, Any],
    view: View,
    leader: Leader | None = None,
) -> Ended:
    """Runs checked parts, continues their run or finds it done."""
    rank = None if leader is None else leader.rank
    torch.set_num_threads(threads_of(parts))
    run = describe(parts, command, choices)
    if not _is_done(run):
        give_back(parts.task.num_parameters)
        check_retained(_on_host(parts) if parts.recipe.engine == "sharded" else parts.task)
        give_back(parts.task.num_parameters)
        with _alone(run, Store(parts.outputs / "store")) as store:
            if leader is not None and parts.recipe.engine in BY_RANKS:
                by_ranks(parts.recipe, parts.task, parts.experiment.masking, rank)
                parts = muster(leader, parts)
            _run(parts, engine_of(parts, run.folder, rank), run, store, view.sinks(), leader)
    else:
        _clear(run, parts.outputs / "store")
        _judge_anew(run, parts.outputs / "store")
        not_applied(run)
    retain(parts.outputs, str(parts.values["store"]["keep"]))
    _redraw(run.folder)
    view.conclude(run.folder)
    diverged = read_status(run.folder).get("state") == DIVERGED
    return Ended(ending(run.folder).value, diverged, run.folder)


def _on_host(parts: Parts) -> Task:
    """Gives the problem on the CPU: a device may not hold what the check holds at once."""
    task = parts.task
    on_host = torch.device(task.device).type == "cpu"
    return task if on_host else replace(task, device="cpu", data=task.data.to("cpu"))


def describe(parts: Parts, command: str, choices: Mapping[str, Any]) -> RunDescription:
    """Describes what is known of a run before it starts."""
    trainings, name = num_trainings(parts.experiment), str(parts.values["name"])
    return RunDescription(
        name=name,
        run_id=parts.run_id,
        folder=parts.outputs / name / parts.run_id,
        config=parts.values,
        environment=environment(parts.task.device) | {"choices": dict(choices)},
        command=command,
        probes=parts.probes,
        num_rounds=len(rows_by_round(parts.experiment)),
        num_trainings=trainings,
        num_steps=trainings * clock_of(parts.task, parts.recipe).total,
        problem=problem_facts(parts.task),
    )


def _is_done(run: RunDescription) -> bool:
    """Whether a run is finished, and its files are what was written; the record tells of others."""
    status = read_status(run.folder)
    if status.get("state") not in ENDED or status.get("probes") != run.probes:
        return False
    return not damaged(run.folder, status)


def _clear(run: RunDescription, store: Path) -> None:
    """Removes what a process left that was killed when all was done but the picture."""
    clear_pieces(run.folder)
    path = _lease_of(run, store)
    if path.exists() and (lease := Lease.take(path)) is not None:
        lease.release()


def _judge_anew(run: RunDescription, store: Path) -> None:
    """Judges a finished run by this command's ``report``, where it was judged by another."""
    report = run.config[REPORT]
    told = changed(run.folder, report)
    if told or is_half_judged(run.folder):
        with _alone(run, Store(store)):
            judge_by(run.folder, report, run.command)
    if told:
        log.info("judged   anew, and nothing was trained: %s", ", ".join(told))


def _lease_of(run: RunDescription, store: Path) -> Path:
    return store / "leases" / f"run-{run.name}-{run.run_id}"


@contextmanager
def _alone(run: RunDescription, store: Store) -> Iterator[Store]:
    """Holds the run against every other process; raises UnderWay where one is at it."""
    path = _lease_of(run, store.root)
    lease = Lease.take(path)
    waited = time.monotonic()
    while lease is None and is_elsewhere(path) and time.monotonic() - waited < 2 * COLD_SECONDS:
        time.sleep(1.0)  # queued again on another node: the lease of the first is still warm
        lease = Lease.take(path)
    if lease is None:
        raise UnderWay(
            f"{run.folder} is being written by another process: the same command is under way; "
            "wait for it, or stop it"
        )
    try:
        yield store
    finally:
        lease.release()


def _run(
    parts: Parts,
    choice: Choice,
    run: RunDescription,
    store: Store,
    shown: Sequence[Sink],
    leader: Leader | None,
) -> None:
    recipe, task = parts.recipe, parts.task
    engine, told = choice.engine(recipe, task, leader)
    folder = RunFolder(draw=write)
    sinks: list[Sink] = [folder, *trackers(parts.values), *shown]
    record = Record(sinks, folder.done(run))
    state, error = "failed", None
    try:
        for sink in sinks:
            sink.open(run)
        with stop_requested(patient=leader is not None) as stop:
            log.info("engine   %s (%s)", engine.name, told)
            remark(parts, run)
            expected = expect(parts, run, engine.name, record.done, is_about_to_run=True)
            for line in expected.lines:
                log.info("%s", line)
            expected.check()
            to_train = expected.num_to_train * expected.num_steps
            warn_if_slow(parts.experiment, recipe, engine, to_train)
            pace = Pace(stop, recipe.checkpoint_minutes * 60, record.watch, folder.replayed)
            trainer = Trainer(recipe, store, engine, pace, run=run.run_id)
            with recipe.arithmetic(torch.device(task.device)):
                past = run_experiment(parts.experiment, trainer, record)  # scores, probes: alike
        state = DIVERGED if any(rounds[-1].diverged for rounds in past.values()) else DONE
    except (Interrupted, KeyboardInterrupt):
        state = "interrupted"
        raise KeyboardInterrupt from None
    except SystemExit:  # a launcher's own end: it has queued this run again
        state = "interrupted"
        raise
    except BaseException as failure:
        if nobody_reads(failure):
            state = "interrupted"
            raise KeyboardInterrupt from None
        error = f"{type(failure).__name__}: {failure}"
        raise
    finally:
        record.close(state, error)


def retain(outputs: Path, keep: str) -> None:
    """Removes from the Store what ``store.keep`` lets go, and nothing that another run may need.

    While any run of these outputs is not done, or a training is under way, everything stays.
    """
    if keep == "all":
        return
    now = datetime.now(timezone.utc)
    found = survey(outputs, read_points(outputs, now), now)
    going = [item for item in found.going(keep) if item.level]  # what no run names is another's
    remove(found, going)
    log.info(
        "store    %s",
        found.stays
        or f"{len(going)} files removed, {size(sum(i.size for i in going))} (keep={keep})",
    )


def _redraw(folder: Path) -> None:
    if names := stale(folder):  # damaged, or killed between its last row and its picture
        log.info("%s: %s drawn again", folder, " and ".join(names))
        write(folder)
