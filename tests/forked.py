"""Processes of their own that start at once: forked from one that has loaded the program."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path

from lth_runner.cli import main as cli

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["lth_runner.cli.launch", "lth_runner.runs.report.run_page", "sklearn.datasets"]
)


@dataclass(frozen=True)
class Forked:
    """A process at work, and the file that holds what it prints."""

    process: BaseProcess
    log: Path

    @classmethod
    def start(cls, main: Callable[..., object], *arguments: object, logs: Path) -> Forked:
        """Calls a function of an importable module in a process of its own."""
        handle, name = tempfile.mkstemp(suffix=".log", dir=logs)
        os.close(handle)
        words = (Path(name), main, arguments)
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

    def finish(self) -> str:
        """Waits until it ends, which must be well; what it printed."""
        self.process.join(timeout=300)
        assert self.process.exitcode == 0, self.log.read_text()
        return self.log.read_text()


def lth_run_forked(*arguments: object, logs: Path) -> Forked:
    """`lth-run` in a process of its own."""
    return Forked.start(_lth_run, *map(str, arguments), logs=logs)


def _lth_run(*arguments: str) -> None:
    sys.argv = ["lth-run", *arguments]
    cli.main()


def _print_to(log: Path, main: Callable[..., object], arguments: tuple[object, ...]) -> None:
    with log.open("w") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    main(*arguments)
