"""What makes the runs behind docs/results.md: its commands, their runs and the hours they took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from claim import STUDY
from evidence import command
from judged import Row
from sections import SECTIONS

from lth_runner.runs.evidence.means import IDENTITY, number
from lth_runner.runs.evidence.rows import FinishedRun

Made = dict[str, list[FinishedRun]]


def made(rows: Iterable[Row], every: Sequence[FinishedRun]) -> Made:
    """The commands that make the page's runs, each once, with the runs that it made.

    A run stands where it is met first. A study, and the first command of a section, also have the
    runs of `every` that have their name and no other command; a section's other commands have none.
    """
    found: Made = {}
    names: dict[str, set[str]] = {}  # of the commands whose runs are known by their name alone
    for row in (row for row in rows if row.found is not None):
        if STUDY in row.claim.command:
            parts = row.claim.command.split(", then ")
            for part in parts:
                found.setdefault(part, [])
                names.setdefault(part, set()).update(name for name, _ in row.claim.runs.values())
            found[parts[0]] += row.runs
        else:
            for run in row.runs:
                found.setdefault(command(run), []).append(run)
    for section in SECTIONS:
        for part in section.commands:
            found.setdefault(part, [])
            names.setdefault(part, set()).add(section.name)
    known: set[tuple[str, str]] = set()
    own = {part: _new(runs, known) for part, runs in found.items()}
    for part, its in names.items():
        own[part] += _new([run for run in every if run.name in its], known)
    return own


def _new(runs: Iterable[FinishedRun], known: set[tuple[str, str]]) -> list[FinishedRun]:
    """Those that are not known yet, which are then."""
    first = {(run.name, run.folder.name): run for run in runs}
    new = [run for key, run in first.items() if key not in known]
    known |= set(first)
    return new


def hours(runs: Iterable[FinishedRun]) -> float:
    """What their trainings took, each once: the longest time where it was done, else as told."""
    told: dict[object, float] = {}
    done: dict[object, float] = {}
    for run in runs:
        for row in run.rows:
            keys = row.get("training_keys") or [row.get("training_key")]
            place = tuple(keys) if None not in keys else (run.folder, *(row[k] for k in IDENTITY))
            times = told if row.get("reused") else done
            times[place] = max(times.get(place, 0.0), number(row.get("seconds")) or 0.0)
    return sum({**told, **done}.values()) / 3600
