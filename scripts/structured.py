"""Claims on structured tickets: what they lose, and the inference time that they save.

Times are those of `lth-export RUN --round R --seed S --arm refill --report FILE --batches 1,32`,
whose files are kept in docs/runs/latency/. Which run a file is of, it says itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from measures import NEAR, AgainstDense, Found, above, compared, held, level, ruled

from lth_runner.runs.evidence.estimate import one_sample, sample
from lth_runner.runs.evidence.judge import level_at
from lth_runner.runs.evidence.rows import TICKET, FinishedRun

Runs = Mapping[str, FinishedRun]
REPORTS = Path(__file__).parents[1] / "docs/runs/latency"
ARM = "refill"
BATCH = 32


@cache
def reports(folder: Path) -> tuple[Mapping[str, Any], ...]:
    """Reads what `lth-export --report` has written into a folder."""
    return tuple(json.loads(file.read_text()) for file in sorted(folder.glob("*.json")))


def saved(run: FinishedRun, round: int, arm: str, folder: Path) -> dict[int, float]:
    """Share of the dense network's time that the shrunk one does without, by seed.

    Medians at batch 32, both timed in turns in one process.
    """
    found = {}
    for report in reports(folder):
        of = report["ticket"]
        if (of["run"], of["round"], of["arm"]) != (run.folder.name, round, arm):
            continue
        times = {one["form"]: one["median"] for one in report["latencies"] if one["batch"] == BATCH}
        if {"dense", "shrunk"} <= times.keys():
            found[of["seed"]] = 1 - times["shrunk"] / times["dense"]
    return found


@dataclass(frozen=True)
class OfWidth:
    """A measure of the runs whose network has this width: those of others have the same name."""

    width: int
    measure: Callable[[Runs], Found | None]

    def __call__(self, runs: Runs) -> Found | None:
        of_width = runs["run"].option("model", "width") == self.width
        return self.measure(runs) if of_width else None


@dataclass(frozen=True)
class SavesTime:
    """Whole channels save more than a share of the time, and lose no more than a margin.

    Shown where both are (the larger p-value), refuted where one of them is (twice the smaller).
    """

    round: int
    kept: float
    share: float
    folder: Path = REPORTS

    def __call__(self, runs: Runs) -> Found | None:
        run = runs["run"]
        loss = AgainstDense(self.kept, worse=False, arm=ARM, margin=NEAR)(runs)
        times = saved(run, self.round, ARM, self.folder)
        if loss is None or len(times) < len(run.seeds):
            return None
        time = above(
            f"{level(times, decimals=1)} % of the time saved",
            one_sample(sample(list(times.values())), self.share),
            0.0,
        )
        text = f"{time.ours}; accuracy {loss.ours}"
        if None in (parts := (time.for_it, loss.for_it, time.against_it, loss.against_it)):
            return Found(text, None, None)
        one, other, against, against_other = parts
        return Found(text, max(one, other), min(1.0, 2 * min(against, against_other)))


@dataclass(frozen=True)
class AnyOf:
    """At one density at least: by what is said of each, which is told behind its words.

    Shown by the surest of them, all counted in (Bonferroni); refuted where all of them are.
    """

    measures: Mapping[str, Callable[[Runs], Found | None]]

    def __call__(self, runs: Runs) -> Found | None:
        found = {words: measure(runs) for words, measure in self.measures.items()}
        known = {words: one for words, one in found.items() if one is not None}
        if len(known) < len(found):
            return None
        text = "; ".join(f"{words}: {one.ours}" for words, one in known.items())
        for_it = [one.for_it for one in known.values()]
        against = [one.against_it for one in known.values()]
        if None in for_it or None in against:
            return Found(text, None, None)
        shown = min(1.0, len(known) * min(one for one in for_it if one is not None))
        return Found(text, shown, max(one for one in against if one is not None))


@dataclass(frozen=True)
class LessTicket:
    """Whole channels less the unstructured ticket that they were made of."""

    round: int

    def __call__(self, runs: Runs) -> Found | None:
        run = runs["run"]
        found = compared(run, (ARM, self.round), (TICKET, self.round))
        if found is None:
            return None
        text, difference = found
        ours, ticket = (level_at(run, arm, self.round) for arm in (ARM, TICKET))
        return ruled(text, held(ours, ticket, difference), -NEAR, as_good=True)
