"""The command line `lth-run`, which loads no torch by itself, so that --help answers at once."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from lth_runner import __version__
from lth_runner.cli.arguments import DRY_RUN, as_overrides, own_folders, refuse_misplaced
from lth_runner.cli.completion import completes_option
from lth_runner.cli.help import help_text
from lth_runner.cli.lazy_help import help_as_text
from lth_runner.cli.loading import uncollected
from lth_runner.values.cublas import fix_workspace
from lth_runner.values.errors import RankLost, UserError
from lth_runner.values.ranks import Rank
from lth_runner.values.search_path import user_code_last
from lth_runner.values.spinning import wait_briefly_beside_others
from lth_runner.values.terminal import show, show_traceback, visible_lines

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from lth_runner.cli.launch import Ended
    from lth_runner.training.engines.distributed.lines import Leader

EXIT_BUG, EXIT_USER, EXIT_DIVERGED, EXIT_INTERRUPTED = 1, 2, 3, 130
ALONE = {f"train.engine={engine}" for engine in ("distributed", "sharded")}  # of one rank too
BEFORE = "before the run began: nothing was changed"
TOLD = "told"  # of an interruption that has been
DIVERGED = (
    "a ticket diverged: its loss became NaN or infinite, and its replicate has no later rounds; a "
    "lower train.optimizer.lr, or train.clip_norm, may keep it finite"
)


class Lines(logging.Handler):
    """Prints log records as plain lines on stdout, above the live bar where there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(visible_lines(self.format(record)), file=sys.stdout)
        sys.stdout.flush()


def conf_dir() -> Path:
    """Returns the packaged conf/ where there is one, else the checkout's."""
    package = Path(__file__).parents[1]
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parents[1] / "conf"


def main() -> None:
    """Runs ``lth-run``; exits with 0, 1 (a bug), 2 (a mistake), 3 (diverged) or 130."""
    words = as_overrides(sys.argv[1:])
    if words == ["--version"]:
        _answer(f"lth-run {__version__}")
        return
    if {"-h", "--help"} & set(words):
        _answer(help_text([conf_dir(), *own_folders(words)]).removesuffix("\n"))
        return
    wait_briefly_beside_others(os.environ)
    set_up_logging()
    sys.excepthook = show_traceback
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # errors come here, and are told in one place
    try:
        rank = Rank.of(os.environ)
    except UserError as error:
        sys.exit(tell(error))
    # one alone is mostly a job's, whose system sets such variables for whatever is run in it
    if rank is None or (rank.num == 1 and ALONE.isdisjoint(words)):
        _begin(words)
        return
    from lth_runner.cli.ranks import follow, lead

    if not rank.is_first:
        follow(rank, words)
    try:
        with lead(rank, words) as leader:
            _begin(words, leader)
    except UserError as error:
        sys.exit(tell(error))
    except KeyboardInterrupt:
        print(f"interrupted {BEFORE}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


def _answer(text: str) -> None:
    """Prints what was asked for, as far as somebody reads it: `lth-run --help | head`."""
    from lth_runner.cli.stopping import hush

    try:
        show(text)
    except BrokenPipeError:
        hush()


def _begin(words: Sequence[str], leader: Leader | None = None) -> None:
    """Composes and runs what a command says; ``leader`` has the lines to other ranks."""
    from lth_runner.cli.stopping import hush, interruption_told, nobody_reads

    try:
        with interruption_told():
            _dry_run(words) if DRY_RUN in words else _compose(words, leader)
    except KeyboardInterrupt as stop:
        if TOLD not in stop.args:
            print(f"interrupted {BEFORE}", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        if nobody_reads(error):  # whoever reads, `head` for example, has seen enough
            hush()
            print(f"interrupted: nobody reads on; continue with:\n  {_typed()}", file=sys.stderr)
            sys.exit(EXIT_INTERRUPTED)
        if traceback_wanted():
            raise
        sys.exit(tell(error))


def _compose(words: Sequence[str], leader: Leader | None) -> None:
    def launch_with_others(config: DictConfig) -> float | None:
        return launch(config, leader)

    refuse_misplaced(words)
    if completes_option():
        return
    with uncollected():
        import hydra
        from hydra.core.plugins import Plugins

        Plugins.instance()  # those that are installed, and none that lie in this folder
    user_code_last()  # model._target_=mine.Net finds mine.py in this folder
    sys.argv[1:] = words  # the only place that Hydra reads them from
    task = launch if leader is None else launch_with_others  # the one can be sent to a worker
    with help_as_text():
        hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()


def _dry_run(words: Sequence[str]) -> None:
    refuse_misplaced(words)
    with uncollected():
        from hydra.core.plugins import Plugins

        from lth_runner.cli.dry_run import dry_run

        Plugins.instance()
    user_code_last()
    fix_workspace()
    dry_run(words, conf_dir())


def _typed() -> str:
    """The command as it was typed, for a shell."""
    return shlex.join(["lth-run", *sys.argv[1:]])


def set_up_logging() -> None:
    """Logs plain lines: ours from INFO on, the libraries' warnings; a worker starts without."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[Lines()])
    logging.getLogger("lth_runner").setLevel(logging.INFO)
    logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # says again what errors say


def traceback_wanted() -> bool:
    """Whether errors are to show where they come from."""
    return bool(os.environ.get("LTH_TRACEBACK"))


def tell(error: Exception) -> int:
    """Prints what went wrong in one message, and returns the exit status."""
    from lth_runner.cli.messages import MISTAKES, explain, explain_bug, is_ours

    # what Hydra cannot compose is the command's or a yaml's, whatever it raises
    known = isinstance(error, MISTAKES) or not is_ours(error)
    message = explain(error, conf_dir(), sys.argv[1:]) if known else explain_bug(error)
    show(f"error: {message}", sys.stderr)
    return EXIT_USER if known and not isinstance(error, RankLost) else EXIT_BUG


def launch(config: DictConfig, leader: Leader | None = None) -> float | None:
    """One run; returns the last ticket's mean test accuracy, for sweepers to optimise.

    Or all runs of a study, where one is chosen. ``leader`` has the lines to other ranks.
    """
    if leader is not None:
        from lth_runner.cli.ranks import check_one_run

        try:
            check_one_run(leader.rank, config)
        except UserError as error:
            sys.exit(tell(error))  # past Hydra, which would go on with the next
    if "study" in config:
        launch_study(config)
        return None
    ended = attempt(config, leader)
    return None if ended is None else ended.value


def launch_study(config: DictConfig) -> None:
    """Runs what is missing of a study."""
    from hydra.core.hydra_config import HydraConfig

    with uncollected():
        from lth_runner.cli.study import run_study
    from lth_runner.cli.stopping import nobody_reads, say
    from lth_runner.cli.sweep import command

    known = HydraConfig.get()
    try:
        run_study(config, known, launch_point)
    except KeyboardInterrupt as stop:
        if TOLD not in stop.args:  # by the point that was stopped
            say(f"interrupted; continue with:\n  {command(known, known.overrides.task)}")
        raise KeyboardInterrupt(TOLD) from None
    except Exception as error:
        if traceback_wanted() or nobody_reads(error):
            raise
        sys.exit(tell(error))  # past Hydra, which would add lines of its own


def launch_point(config: DictConfig) -> str | None:
    """One run of a study; returns its folder, None where it failed, which has been told."""
    ended = attempt(config)
    return None if ended is None else str(ended.folder)


def attempt(config: DictConfig, leader: Leader | None = None) -> Ended | None:
    """One run; None where it is a sweep's point that failed, and the others run on."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    with uncollected():
        from lth_runner.cli.launch import execute
    from lth_runner.cli.composed import composed
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
    from lth_runner.values.errors import UnderWay

    fix_workspace()
    set_up_logging()
    user_code_last()  # in a worker too, which a launcher may have started with `python -m`
    known = HydraConfig.get()
    sweeps = known.mode == RunMode.MULTIRUN
    own = command(known, known.overrides.task)
    if leader is not None:
        own = own.replace("lth-run", shlex.join(leader.rank.program), 1)
    try:
        if leader is not None:
            config.device = device_of(leader.rank, str(config.device))
        if sweeps:
            if line := place(known):
                show(line)
            told = sweep_line(
                Path(known.sweep.dir), Path(config.paths.outputs), int(known.job.num),
                datetime.now(timezone.utc),
            )  # fmt: skip
            if told:
                show(told)
            config.device = spread(str(config.device), int(known.job.num))
            config.train.snapshots = snapshots(known, config.train.snapshots)
        one = composed(config, known)
        with interruption_told():
            ended = execute(one.config, one.command, one.choices, leader=leader)
    except (KeyboardInterrupt, SystemExit) as stop:  # the latter a launcher's: it queues it again
        whole = whole_command(known) if sweeps else None
        say(f"interrupted; continue with:\n  {whole or own}")
        if isinstance(stop, KeyboardInterrupt):
            raise KeyboardInterrupt(TOLD) from None
        raise
    except Exception as error:
        if traceback_wanted() or nobody_reads(error):
            raise
        if sweeps and isinstance(error, UnderWay):
            show(f"point    left to another process: {error}")
            return None
        status = tell(error)
        if sweeps and not has_grid(known):
            raise  # to a sweeper that chooses its points, and may mark this one
        if not sweeps or not note_failure(known, known.overrides.task, error, status):
            sys.exit(status)  # past Hydra, which would add lines of its own
        return None  # the others run on; the sweep's end tells of it
    if ended.diverged:
        print(f"warning: {DIVERGED}", file=sys.stderr, flush=True)
        if not sweeps:
            sys.exit(EXIT_DIVERGED)
    return ended


def spread(device: str, point: int) -> str:
    """The device of one point of a sweep: points go round where there are several CUDA devices."""
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{point % count}" if device in ("auto", "cuda") and count > 1 else device
