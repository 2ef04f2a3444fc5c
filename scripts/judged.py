"""Claims held against runs: what they say of each, its verdict, and what has made them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from claim import STUDY, Claim, Group
from evidence import command, extent, hardware, images
from measures import Found

from lth_runner.runs.evidence.estimate import LEVEL, Word, holm
from lth_runner.runs.evidence.rows import FinishedRun

NOT_MEASURED: Literal["not measured here"] = "not measured here"
OTHER_COST = re.compile(r" (pruner|train|replicates)\b")
EXPERIMENTS = Path(__file__).parents[1] / "conf/experiment"


@dataclass(frozen=True)
class Row:
    """A claim held against the runs; `found` is None where they do not reach it."""

    claim: Claim
    found: Found | None
    runs: tuple[FinishedRun, ...]
    verdict: Word | Literal["not measured here"] = NOT_MEASURED

    @property
    def text(self) -> str:
        """What is claimed."""
        return self.claim.text

    @property
    def ours(self) -> str:
        """The numbers, of which images where they are no data set's own, and what is unfinished."""
        parts = [] if self.found is None else [self.found.ours]
        parts += dict.fromkeys(f"on {name}" for run in self.runs if (name := images(run)))
        parts += [extent(run) for run in self.runs if run.state != "done"]
        return "; ".join(parts)

    @property
    def made_by(self) -> tuple[str, ...]:
        """The commands of its runs with their machines; of what was not run what a run costs."""
        if self.found is None:
            costs = [] if self.runs else worked_out(self.claim.command)
            state = "does not reach the row" if self.runs else "not run"
            said = " then ".join(f"`{part}`" for part in self.claim.command.split(", then "))
            return (", ".join([f"{said}: {state}", *costs]),)
        if STUDY in self.claim.command:  # whose runs have long commands
            machines = dict.fromkeys(map(hardware, self.runs))
            return (f"`{self.claim.command}`: {', '.join(machines)}",)
        return tuple(dict.fromkeys(f"`{command(run)}`: {hardware(run)}" for run in self.runs))


def worked_out(text: str) -> list[str]:
    """What the experiments of a command cost, from their headers: trainings and steps.

    Of an experiment whose pruner or length is another nothing is known.
    """
    parts = [part for part in text.split(", then ") if not OTHER_COST.search(part)]
    names = dict.fromkeys(re.findall(r"\+experiment=(\w+)", " ".join(parts)))
    heads = [(EXPERIMENTS / f"{name}.yaml").read_text() for name in names]
    costs = [re.search(r"# Cost: (.+?)(?:;|\.)", head) for head in heads]
    return [cost[1] for cost in costs if cost]


def held(claim: Claim, runs: Sequence[FinishedRun]) -> Row:
    """The claim against the first of its runs that reach it: finished before unfinished ones."""
    per_role = {
        role: [run for run in runs if run.name == name and pruner in (None, run.pruner)]
        for role, (name, pruner) in claim.runs.items()
    }
    if claim.together:
        every = tuple(run for found_runs in per_role.values() for run in found_runs)
        found = claim.measure({str(number): run for number, run in enumerate(every)})
        return Row(claim, found, every if found else every[:1])
    for chosen in itertools.product(*per_role.values()):
        found = claim.measure(dict(zip(per_role, chosen, strict=True)))
        if found is not None:
            return Row(claim, found, chosen)
    started = tuple(run for found_runs in per_role.values() for run in found_runs[:1])
    return Row(claim, None, started)


def decided(group: Group, runs: Sequence[FinishedRun]) -> list[Row]:
    """The claims of a section, each with its word: p < 0.05 after Holm's correction for them all.

    Shown and refuted are two families, each of which holds a wrong word with a chance of 5 %.
    """
    rows = [held(claim, runs) for claim in group.claims]
    measured = {row.claim.id: row.found for row in rows if row.found is not None}
    shown = holm({k: v.for_it for k, v in measured.items() if v.for_it is not None})
    refuted = holm({k: v.against_it for k, v in measured.items() if v.against_it is not None})

    def word(name: str) -> Word:
        if shown.get(name, 1.0) < LEVEL:
            return "shown"
        return "refuted" if refuted.get(name, 1.0) < LEVEL else "undecided"

    return [replace(row, verdict=word(row.claim.id)) if row.found else row for row in rows]
