"""``lth_runner.run``: one run from Python, with the command line's parts, folders and resume."""

from __future__ import annotations

import logging
import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from lth_runner.api.borrowed import alone_in_process, as_before, known_to_hydra, lines_shown
from lth_runner.api.composing import compose, refuse_keys
from lth_runner.api.result import Result
from lth_runner.cli.composed import Composed
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.cli.ending import DIVERGED, traceback_wanted
from lth_runner.cli.launch import Ended, carry_out, prepared
from lth_runner.cli.messages import MISTAKES, explain
from lth_runner.cli.stopping import interruption_told
from lth_runner.cli.view import Quiet, Terminal, View
from lth_runner.values.errors import UserError

log = logging.getLogger(__name__)


def run(
    *words: str | Composed,
    config_dir: str | Path | None = None,
    quiet: bool = False,
    **keys: Any,
) -> Result:
    """Runs what ``lth-run`` with the same words would, continues it or finds it done.

    ``words``: overrides, ``run("dataset=digits28", "seed=1")``, or one thing that ``compose`` has
    made. Run folder, run id, Store and files are the command line's: a run that is begun here can
    be continued there. Interrupted (KeyboardInterrupt), the same call goes on with it. ``quiet``
    prints nothing; warnings then go to Python's logging. Runs of one process wait for each other,
    whatever thread they are called from. Threads, arithmetic, environment, signal handlers and
    Hydra's state are as before when it returns. Raises UserError for what the command line refuses
    with one message; what a bug or a part of your own raises is raised as it is.
    """
    refuse_keys("run", keys)
    _end_in_workers()
    one = _composed(words, config_dir)
    with in_this_process(quiet=quiet) as view:
        with known_to_hydra(one.whole):
            parts = prepared(one.config)
        ended = carry_out(parts, one.command, one.choices, view)
    return concluded(ended)


def _end_in_workers() -> None:
    """Ends a worker process that imports a script which calls ``run`` while it is imported.

    It would run the whole again; the process that waits for it says what the script lacks.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # as Python itself asks
        sys.exit(1)


def _composed(words: tuple[str | Composed, ...], config_dir: str | Path | None) -> Composed:
    ready = [word for word in words if isinstance(word, Composed)]
    if not ready:
        return compose(*[word for word in words if not isinstance(word, Composed)],
                       config_dir=config_dir)  # fmt: skip
    if len(words) > 1 or config_dir is not None:
        raise UserError("what compose(...) has made is run alone: give the words to compose(...)")
    return ready[0]


@contextmanager
def in_this_process(*, quiet: bool) -> Iterator[View]:
    """Makes a run a guest of its caller's process; yields what shows it.

    One at a time, interrupted as on the command line, with the settings of the process as before
    at the end, and with mistakes told in one message.
    """
    with (
        alone_in_process(),
        nullcontext() if quiet else lines_shown(),
        interruption_told(),
        as_before(),
        _mistakes_explained(),
    ):
        yield Quiet() if quiet else Terminal()


def concluded(ended: Ended) -> Result:
    """Returns a run's result, and warns of a ticket that diverged."""
    if ended.diverged:
        log.warning("warning: %s", DIVERGED)
    return Result(ended.folder)


@contextmanager
def _mistakes_explained() -> Iterator[None]:
    """Makes UserError of what can go wrong by no fault of the program: a full disk, damage."""
    try:
        yield
    except UserError as error:
        if traceback_wanted():
            raise
        # where in the program it was found is nothing to its reader, who mends the call
        raise type(error)(str(error)) from None
    except MISTAKES as error:
        raise UserError(explain(error, conf_dir())) from error
