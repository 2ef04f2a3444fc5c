"""A row of docs/results.md: what a paper says, and which runs it is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from measures import Found

from lth_runner.runs.evidence.rows import FinishedRun

STUDY = "+study="  # in a command: of runs that name each other's results


@dataclass(frozen=True)
class Claim:
    """One row. `runs` names what `measure` reads: role -> (name of the run, its pruner or None).

    `measure` gets a run for each role and answers None where they do not reach so far yet; with
    `together` it gets all runs of these names at once, by their number.
    """

    id: str
    text: str
    published: str
    rule: str
    command: str
    runs: Mapping[str, tuple[str, str | None]]
    measure: Callable[[Mapping[str, FinishedRun]], Found | None]
    together: bool = False


@dataclass(frozen=True)
class Group:
    """A section of the page: its claims, whose they are, and what was found of those that fail."""

    sources: str
    claims: tuple[Claim, ...]
    found: str = ""
