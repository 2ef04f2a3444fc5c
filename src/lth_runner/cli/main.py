"""The command line `lth-run`, which loads no torch by itself, so that --help answers at once."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lth_runner import __version__
from lth_runner.cli.arguments import DRY_RUN, as_overrides, own_folders, refuse_misplaced
from lth_runner.cli.completion import completes_option
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.cli.ending import EXIT_INTERRUPTED, TOLD, tell, traceback_wanted
from lth_runner.cli.help import help_text
from lth_runner.cli.lazy_help import help_as_text
from lth_runner.cli.loading import uncollected
from lth_runner.cli.log_lines import set_up_logging
from lth_runner.values.cublas import fix_workspace
from lth_runner.values.errors import UserError
from lth_runner.values.ranks import Rank
from lth_runner.values.search_path import user_code_last
from lth_runner.values.spinning import wait_briefly_beside_others
from lth_runner.values.terminal import show, show_traceback

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from lth_runner.training.engines.distributed.lines import Leader

ALONE = {f"train.engine={engine}" for engine in ("distributed", "sharded")}  # of one rank too
BEFORE = "before the run began: nothing was changed"


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
    if completes_option(words):
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
    with uncollected():
        from lth_runner.cli.attempt import attempt
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
    with uncollected():
        from lth_runner.cli.attempt import attempt
    ended = attempt(config)
    return None if ended is None else str(ended.folder)
