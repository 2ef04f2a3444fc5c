"""The report of finished and unfinished runs, made from the files in their folders alone."""

from __future__ import annotations

from pathlib import Path

from lth_runner.runs.evidence.means import aggregate
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.pages.drawn import stale

__all__ = ["FinishedRun", "aggregate", "stale", "write"]


def write(run_folder: str | Path) -> tuple[Path, Path]:
    """Draws `curve.png` and `report.html` of the run into its folder, from what it has so far."""
    from lth_runner.runs.report.run_page import write_run  # loads matplotlib

    return write_run(FinishedRun.load(run_folder))
