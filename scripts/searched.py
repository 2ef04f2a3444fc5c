"""Claims on a mask that is searched for and one that iterative pruning finds: accuracy and time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from measures import CLOSE, Behind, Found, Gap, round_at

from lth_runner.runs.evidence.pruners import find_pruners
from lth_runner.runs.evidence.rows import FinishedRun, rewind_step


@dataclass(frozen=True)
class Ahead:
    """`first` less `second` at one density, both rewound to `step`; positive, or negative."""

    kept: float
    step: int
    behind: bool = False

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        if any(rewind_step(run) != self.step for run in runs.values()):
            return None
        return Behind(self.kept)(runs) if self.behind else Gap(0.0, self.kept)(runs)


@dataclass(frozen=True)
class Quicker:
    """Seconds until `first` has its mask, as a share of those until `second` has one as sparse.

    Timed once, and so without an interval: it decides nothing.
    """

    kept: float
    step: int

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        if any(rewind_step(run) != self.step for run in runs.values()):
            return None
        ended = [end for run in runs.values() if (end := _ended_at(run, self.kept)) is not None]
        found = {
            effort.label: effort.total
            for comparison in find_pruners(ended)
            for effort in comparison.efforts
            if abs(1 - effort.sparsity - self.kept) <= CLOSE * self.kept
        }
        first, second = (found.get(runs[role].pruner) for role in ("first", "second"))
        if first is None or not second:
            return None
        return Found(f"{first:,.0f} s of {second:,.0f} s: {first / second:.2f}", None, None)


def _ended_at(run: FinishedRun, kept: float) -> FinishedRun | None:
    """The run as it would be had it ended with the round of this density."""
    at = round_at(run, kept)
    if at is None:
        return None
    return replace(run, rows=tuple(row for row in run.rows if row["round"] <= at))
