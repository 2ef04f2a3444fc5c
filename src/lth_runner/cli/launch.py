"""One `lth-run`: from a composed config to a finished run folder, whatever happens on the way."""

from __future__ import annotations

import logging
import platform
import shlex
import subprocess
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from lth_runner import __version__
from lth_runner.cli.config import Built, build
from lth_runner.cli.forecast import warn_if_slow
from lth_runner.cli.stopping import nobody_reads, stop_requested
from lth_runner.experiment import Experiment, run
from lth_runner.probe import Trains
from lth_runner.runs.folder import CURVE, PAGE, ROUNDS, STATUS, is_whole, read_status
from lth_runner.runs.measure import ending
from lth_runner.runs.quantities import size
from lth_runner.runs.record import (
    Console,
    Record,
    RunDescription,
    RunFolder,
    Sink,
    WeightsAndBiases,
    coverage,
    problem_facts,
)
from lth_runner.runs.report import Run as Finished
from lth_runner.runs.report import write
from lth_runner.runs.status.reading import read_points
from lth_runner.runs.status.store_care import remove, survey
from lth_runner.store.lease import COLD_SECONDS, Lease, is_elsewhere
from lth_runner.store.store import Store
from lth_runner.training.pace import Interrupted, Pace
from lth_runner.training.recipe import Recipe
from lth_runner.training.trainer import Trainer, clock_of
from lth_runner.values.errors import UnderWay

log = logging.getLogger(__name__)


def execute(
    config: DictConfig, command: str, choices: Mapping[str, Any] | None = None
) -> float | None:
    """Runs, continues or returns a finished run; the last tickets' mean headline on the test split.

    ``choices``: the options that the config is composed of, for whoever reads the run folder.
    """
    built = build(config)
    torch.set_num_threads(built.threads)
    described = describe(built, command, choices or {})
    if not _is_done(described):
        _run(built, described)
    _conclude(described.folder)
    return ending(described.folder).value


def describe(built: Built, command: str, choices: Mapping[str, Any]) -> RunDescription:
    """What is known of a run before it starts."""
    experiment, name = built.experiment, str(built.resolved["name"])
    clock = clock_of(experiment.tasks[0], built.recipe)
    num_rows = rows_by_round(experiment)
    parts = [*experiment.probes, *experiment.controls.values()]
    added = sum(part.num_trainings(num_rows) for part in parts if isinstance(part, Trains))
    trainings = len(experiment.tasks) * (sum(num_rows) + added)
    return RunDescription(
        name=name,
        run_id=built.run_id,
        folder=built.outputs / name / built.run_id,
        config=built.resolved,
        environment=environment(experiment.tasks[0].device) | {"choices": dict(choices)},
        command=command,
        probes=built.probes,
        num_rounds=len(num_rows),
        num_trainings=trainings,
        num_steps=trainings * clock.total,
        problem=problem_facts(experiment.tasks[0]),
    )


def rows_by_round(experiment: Experiment) -> list[int]:
    """How many trainings a replicate has in each round: its ticket, and the controls beside it."""
    rounds, arms = experiment.search.num_rounds, 1 + len(experiment.controls)
    # without a dense network first, controls stand beside the first training already
    alone = 1 if getattr(experiment.search, "dense", True) else 0
    return [*[1] * alone, *[arms] * (rounds - alone)]


def _is_done(described: RunDescription) -> bool:
    status = read_status(described.folder)
    if status.get("state") != "done" or status.get("probes") != described.probes:
        return False
    if not is_whole(described.folder, status):
        log.warning("%s lacks rows or tickets: written again from the Store", described.folder)
        (described.folder / STATUS).unlink()  # what it says is no longer so
        return False
    return True


def _run(built: Built, described: RunDescription) -> None:
    store = Store(built.outputs / "store")
    path = store.root / "leases" / f"run-{described.name}-{described.run_id}"
    lease = Lease.take(path)
    waited = time.monotonic()
    while lease is None and is_elsewhere(path) and time.monotonic() - waited < 2 * COLD_SECONDS:
        time.sleep(1.0)  # queued again on another node: the lease of the first is still warm
        lease = Lease.take(path)
    if lease is None:
        raise UnderWay(
            f"{described.folder} is being written by another process: the same command is under "
            "way; wait for it, or stop it"
        )
    try:
        _attempt(built, described, store)
    finally:
        lease.release()
    retain(built.outputs, str(built.resolved["store"]["keep"]))


def _attempt(built: Built, described: RunDescription, store: Store) -> None:
    folder = RunFolder(draw=write)
    view = WeightsAndBiases(**built.resolved["record"]["wandb"])
    sinks: list[Sink] = [folder, view, Console()]
    record = Record(sinks, folder.done(described))
    state, error = "failed", None
    try:
        for sink in sinks:
            sink.open(described)
        with stop_requested() as stop:
            log.info("engine   %s (%s)", built.engine.name, built.engine_reason)
            _tell_of_shrinking(described, built.recipe)
            log.info("prunable %s", coverage(described.problem))
            _tell_of_no_control(built.experiment)
            warn_if_slow(built.experiment, built.recipe, built.engine, described.num_steps)
            seconds = built.recipe.checkpoint_minutes * 60
            pace = Pace(stop, seconds, record.watch, folder.replayed)
            trainer = Trainer(built.recipe, store, built.engine, pace, run=described.run_id)
            with built.recipe.arithmetic(torch.device(built.experiment.tasks[0].device)):
                run(built.experiment, trainer, record)  # scores and probes by the same rules
        state = "done"
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


def _tell_of_shrinking(described: RunDescription, recipe: Recipe) -> None:
    given = [word for word in shlex.split(described.command) if word.startswith("train.length=")]
    if given and recipe.shrink_to is not None:
        log.info(
            "length   %s is shrunk to train.shrink_to=%s, which +scale=smoke sets: "
            "train.shrink_to=null trains the whole of it",
            given[-1], recipe.shrink_to,
        )  # fmt: skip


def _tell_of_no_control(experiment: Experiment) -> None:
    if experiment.controls and max(rows_by_round(experiment)) == 1:
        can = hasattr(experiment.search, "retrain")
        log.info(
            "control  none will run (%s): this pruner finds its mask in its only training, and "
            "there is no ticket to stand beside%s",
            ", ".join(experiment.controls), "; pruner.retrain=true trains one" if can else "",
        )  # fmt: skip


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


def _conclude(folder: Path) -> None:
    from lth_runner.runs.report.table import table  # loads scipy: not before the first step

    page, rows = folder / PAGE, folder / ROUNDS
    if not page.exists() or page.stat().st_mtime < rows.stat().st_mtime:
        write(folder)  # killed between its last row and its picture
    print(f"\n{table(Finished.load(folder))}\n")
    print(f"picture  {folder / CURVE}\npage     {page}", flush=True)


def environment(device: torch.device | str) -> dict[str, Any]:
    """Versions, device and code state: what a reader needs to repeat a run."""
    device = torch.device(device)
    return {
        "lth_runner": __version__,
        "git": git_state(Path(__file__).parents[1]),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else _processor(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "host": platform.node(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({len(names)} cores)" if names else platform.processor()


def git_state(folder: Path) -> dict[str, Any]:
    """The commit that the code is at and whether it was changed since; nulls outside git."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no", "--", ".")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}
