"""One run of those that a command asks for, alone or as a point of a sweep or a study.

It is asked for by Hydra, perhaps in another process than the command's. Whatever happens is told
here, with the command that goes on.
"""

from __future__ import annotations

import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from lth_runner.cli import launch
from lth_runner.cli.composed import composed
from lth_runner.cli.ending import DIVERGED, EXIT_DIVERGED, TOLD, tell, traceback_wanted
from lth_runner.cli.log_lines import set_up_logging
from lth_runner.cli.ranks import device_of
from lth_runner.cli.stopping import interruption_told, nobody_reads, say
from lth_runner.cli.sweep import (
    command,
    has_grid,
    note_failure,
    place,
    snapshots,
    whole_command,
)
from lth_runner.runs.sweep_time import sweep_line
from lth_runner.training.engines.distributed.lines import Leader
from lth_runner.values.cublas import fix_workspace
from lth_runner.values.errors import UnderWay
from lth_runner.values.search_path import user_code_last
from lth_runner.values.terminal import show


def attempt(config: DictConfig, leader: Leader | None = None) -> launch.Ended | None:
    """One run; None where it is a sweep's point that failed, and the others run on.

    ``leader`` has the lines to other ranks. Exits where the command is to end with the run.
    """
    fix_workspace()
    set_up_logging()
    user_code_last()  # in a worker too, which a launcher may have started with `python -m`
    known = HydraConfig.get()
    sweeps = known.mode == RunMode.MULTIRUN
    try:
        if leader is not None:
            config.device = device_of(leader.rank, str(config.device))
        if sweeps:
            _place(config, known)
        one = composed(config, known)
        with interruption_told():
            ended = launch.execute(one.config, one.command, one.choices, leader=leader)
    except (KeyboardInterrupt, SystemExit) as stop:  # the latter a launcher's: it queues it again
        say(f"interrupted; continue with:\n  {_command(known, leader)}")
        if isinstance(stop, KeyboardInterrupt):
            raise KeyboardInterrupt(TOLD) from None
        raise
    except Exception as error:
        if traceback_wanted() or nobody_reads(error):
            raise
        if not sweeps:
            sys.exit(tell(error))  # past Hydra, which would add lines of its own
        if isinstance(error, UnderWay):
            show(f"point    left to another process: {error}")
            return None
        status = tell(error)
        if not has_grid(known):
            raise  # to a sweeper that chooses its points, and may mark this one
        if not note_failure(known, known.overrides.task, error, status):
            sys.exit(status)
        return None  # the others run on; the sweep's end tells of it
    if ended.diverged:
        print(f"warning: {DIVERGED}", file=sys.stderr, flush=True)
        if not sweeps:
            sys.exit(EXIT_DIVERGED)
    return ended


def _place(config: DictConfig, known: Any) -> None:
    """Says which point of a sweep this is, and gives it its device and its snapshots."""
    number = int(known.job.num)
    if line := place(known):
        show(line)
    told = sweep_line(
        Path(known.sweep.dir), Path(config.paths.outputs), number, datetime.now(timezone.utc)
    )
    if told:
        show(told)
    config.device = _spread(str(config.device), number)
    config.train.snapshots = snapshots(known, config.train.snapshots)


def _spread(device: str, point: int) -> str:
    """The device of one point of a sweep: points go round where there are several CUDA devices."""
    count = torch.cuda.device_count()
    return f"cuda:{point % count}" if device in ("auto", "cuda") and count > 1 else device


def _command(known: Any, leader: Leader | None) -> str:
    """The command that goes on with what was begun: the whole sweep's where this is of one."""
    if known.mode == RunMode.MULTIRUN and (whole := whole_command(known)):
        return whole
    own = command(known, known.overrides.task)
    return own if leader is None else own.replace("lth-run", shlex.join(leader.rank.program), 1)
