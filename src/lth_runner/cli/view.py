"""What a person sees of a run: its lines and its table, or nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lth_runner.runs.folder import CURVE, PAGE
from lth_runner.runs.record import Console, Sink
from lth_runner.runs.report import FinishedRun
from lth_runner.values.terminal import show


class View(Protocol):
    """Shows a run to whoever has asked for it; what is written into its folder is the same."""

    def sinks(self) -> Sequence[Sink]:
        """Returns what shows the run while it trains, beside the sinks that keep it."""

    def conclude(self, folder: Path) -> None:
        """Shows what a run that has ended came to, one that is found done as well."""


class Terminal:
    """A line for every training, a live bar where there is a screen, and the table at the end."""

    def sinks(self) -> Sequence[Sink]:
        return [Console()]

    def conclude(self, folder: Path) -> None:
        from lth_runner.runs.report.run_text import run_text  # loads scipy: not before it is needed

        show(f"\n{run_text(FinishedRun.load(folder))}\n")
        show(f"picture  {folder / CURVE}\npage     {folder / PAGE}")


class Quiet:
    """Nothing; what the program warns of goes to Python's logging all the same."""

    def sinks(self) -> Sequence[Sink]:
        return []

    def conclude(self, folder: Path) -> None:
        pass
