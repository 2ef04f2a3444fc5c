"""What several runs say together: a page for each kind of comparison that they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from lth_runner.runs.evidence.forgetting import find_forgetting
from lth_runner.runs.evidence.generated import find_generated
from lth_runner.runs.evidence.merges import find_merges
from lth_runner.runs.evidence.pruners import Comparison, find_pruners
from lth_runner.runs.evidence.rows import FinishedRun
from lth_runner.runs.evidence.sweep import Sweep, find_sweeps
from lth_runner.runs.evidence.transfer_runs import find_transfers
from lth_runner.runs.report import generated_networks, pruner_page, sweep_page, sweep_text
from lth_runner.runs.report.compare import compare
from lth_runner.runs.study_pages import forgetting, generated, merges, transfer

T = TypeVar("T")

MOST = 10  # of runs that differ in their pruner, or in sparsity alone: drawn unasked


@dataclass(frozen=True)
class _Written:
    """Pages that lie in a folder, and what they say in a terminal."""

    folder: Path
    told: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)

    def add(
        self,
        found: Iterable[T],
        stem: str,
        write: Callable[[T, Path, str], Iterable[Path]],
        text: Callable[[T], str],
    ) -> None:
        """Writes a page for each: <stem>.html, <stem>-2.html and so on."""
        for index, one in enumerate(found, 1):
            self.files.extend(write(one, self.folder, stem if index == 1 else f"{stem}-{index}"))
            self.told.append(text(one))


def compare_runs(
    runs: Sequence[FinishedRun], folder: Path, most: int = MOST
) -> tuple[str, list[Path]]:
    """Writes what several runs say together; returns the text of it, and the files.

    Of pruners and of sweeps at most ``most`` are written, those of the most runs, and the others
    are told: a sweep over hundreds of learning rates is as many comparisons of pruners.
    """
    text, files = compare(runs, folder)
    written = _Written(folder, [text], list(files))
    carried, forgot = find_transfers(runs), find_forgetting(runs)
    made, merged = find_generated(runs), find_merges(runs)
    told_of = {cell.run.folder for one in carried for cell in one.cells}
    told_of |= {run.folder for one in forgot for run in one.runs}
    told_of |= {run.folder for one in made for run in one.runs}
    told_of |= {run.folder for one in merged for run in one.runs}
    others = [run for run in runs if run.folder not in told_of]
    comparisons = find_pruners(others)
    compared = {run.folder for comparison in comparisons for run in comparison.sweep.runs}
    # one pruner at several sparsities is a line of the page that has it beside the others
    sweeps = [
        sweep
        for sweep in find_sweeps(others)
        if len(sweep.settings) > 1 or not {run.folder for run in sweep.runs} <= compared
    ]
    chosen = _largest(comparisons, most, _runs_compared)
    written.add(chosen, "pruners", pruner_page.write_pruners, pruner_page.text)
    written.told.extend(_left(comparisons, most, "but for their pruner"))
    swept = _largest(sweeps, most, _runs_swept)
    written.add(swept, "sweep", sweep_page.write_sweep, sweep_text.text)
    written.told.extend(_left(sweeps, most, "but for sparsity and rewind step"))
    written.add(carried, "transfer", transfer.write_transfer, transfer.text)
    written.add(forgot, "forgetting", forgetting.write_forgetting, forgetting.text)
    written.add(merged, "merges", merges.write_merges, merges.text)
    written.add(made, "generated", generated.write_generated, generated_networks.text)
    return "\n\n".join(written.told), written.files


def _runs_compared(comparison: Comparison) -> int:
    return len(comparison.sweep.runs)


def _runs_swept(sweep: Sweep) -> int:
    return len(sweep.runs)


def _largest(found: Sequence[T], most: int, size: Callable[[T], int]) -> list[T]:
    """The ``most`` of the largest size, in the order found."""
    chosen = sorted(range(len(found)), key=lambda index: -size(found[index]))[:most]
    return [found[index] for index in sorted(chosen)]


def _left(found: Sequence[object], most: int, alike: str) -> list[str]:
    """What is told of comparisons that are not written."""
    if len(found) <= most:
        return []
    return [
        f"{len(found)} groups of runs that are alike {alike}: the {most} largest are drawn, "
        "--pages draws all."
    ]
