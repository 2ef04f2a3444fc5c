"""Claims about a second task after a first: what is read off the runs of a study."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from measures import Found, above, change, level

from lth_runner.runs.evidence.estimate import sample, two_sample
from lth_runner.runs.evidence.forgetting import Way, find_forgetting
from lth_runner.runs.evidence.rows import FinishedRun


@dataclass(frozen=True)
class Retained:
    """What one way keeps of the first task less what another keeps; positive."""

    first: str
    second: str
    way: tuple[str, str]
    than: tuple[str, str]
    reads: str = "retained_accuracy"  # what is drawn behind its rows

    def __call__(self, runs: Mapping[str, FinishedRun]) -> Found | None:
        for found in find_forgetting(list(runs.values())):
            kept = {one.way: one.retained for one in found.kept}
            ours, theirs = kept.get(Way(*self.way)), kept.get(Way(*self.than))
            if (found.first, found.second) == (self.first, self.second) and ours and theirs:
                lead = two_sample(*(sample(list(one.values())) for one in (ours, theirs)))
                text = f"{level(ours)} against {level(theirs)}: {change(lead)}"
                return above(text, lead, 0.0)
        return None
