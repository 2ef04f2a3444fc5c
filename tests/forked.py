"""Processes of their own that start at once: forked from one that has loaded the program."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from command import without_pictures
from composing import composed_once, read_once, unsynced
from lth_runner.cli import main as cli

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "lth_runner.cli.launch",
        "lth_runner.runs.report.run_page",
        "torch._dynamo",  # which the first optimizer loads
    ]
)


@dataclass(frozen=True)
class Forked:
    """A process at work, and the file that holds what it prints."""

    process: BaseProcess
    log: Path

    @classmethod
    def start(
        cls,
        main: Callable[..., object],
        *arguments: object,
        logs: Path,
        out: Path | None = None,
    ) -> Forked:
        """Calls a function of an importable module in a process of its own.

        ``out``: a pipe that takes what it prints to stdout, or a terminal that takes all.
        """
        handle, name = tempfile.mkstemp(suffix=".log", dir=logs)
        os.close(handle)
        words = (Path(name), out, main, arguments)
        process = SERVER.Process(target=_print_to, args=words, daemon=True)
        process.start()
        return cls(process, Path(name))

    @property
    def is_running(self) -> bool:
        return self.process.is_alive()

    def kill(self) -> int:
        """kill -9; the exit status, which is 0 where it had just ended by itself."""
        self.process.kill()
        self.process.join()
        status = self.process.exitcode
        assert status in (0, -signal.SIGKILL), self.log.read_text()
        return status

    def finish(self, status: int = 0) -> str:
        """Waits until it ends, with this status; what it printed."""
        self.process.join(timeout=300)
        assert self.process.exitcode == status, self.log.read_text()
        return self.log.read_text()


def lth_run_forked(
    *arguments: object, logs: Path, out: Path | None = None, pictures: bool = True, **changed: str
) -> Forked:
    """`lth-run` in a process of its own, in the folder that takes its log."""
    words = list(map(str, arguments))
    environment = {"WANDB_MODE": "disabled", **changed}
    return Forked.start(_lth_run, words, logs, environment, pictures, logs=logs, out=out)


def _lth_run(words: list[str], folder: Path, environment: dict[str, str], pictures: bool) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = ["lth-run", *words]
    with (
        nullcontext() if pictures else without_pictures(),
        read_once(),
        composed_once(),
        unsynced(),
    ):
        cli.main()


def _print_to(
    log: Path, out: Path | None, main: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    both = out if out is not None and out.is_char_device() else None
    for number, path in ((1, out or log), (2, both or log)):
        with path.open("a") as file:
            os.dup2(file.fileno(), number)
    main(*arguments)
