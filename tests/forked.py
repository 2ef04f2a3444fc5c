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
    [
        "lth_runner.cli.launch",
        "lth_runner.runs.report.run_page",
        "sklearn.datasets",
        "torch._dynamo",  # which the first optimizer loads
    ]
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

    def finish(self, status: int = 0) -> str:
        """Waits until it ends, with this status; what it printed."""
        self.process.join(timeout=300)
        assert self.process.exitcode == status, self.log.read_text()
        return self.log.read_text()


def lth_run_forked(*arguments: object, logs: Path, **environment: str) -> Forked:
    """`lth-run` in a process of its own, in the folder that takes its log."""
    words = list(map(str, arguments))
    environment = {"WANDB_MODE": "disabled", **environment}
    return Forked.start(_lth_run, words, logs, environment, logs=logs)


def _lth_run(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    os.chdir(folder)
    os.environ.update(environment)
    sys.argv = ["lth-run", *words]
    cli.main()


def _print_to(log: Path, main: Callable[..., object], arguments: tuple[object, ...]) -> None:
    with log.open("w") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)
    main(*arguments)
