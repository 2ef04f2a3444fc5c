"""Claims about tickets that were carried from one task to another: what is read off runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from evidence import command, extent, hardware, images
from matplotlib.figure import Figure
from measures import ACCURACY, Found, change, held, level, ruled

from lth_runner.runs.evidence.differences import Differences
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.transfer import OWN, Carried, Transfer
from lth_runner.runs.evidence.transfer_runs import find_transfers
from lth_runner.runs.study_pages.transfer import best
from lth_runner.runs.study_pages.transfer_figures import curves_figure, matrix_figure

Runs = Mapping[str, FinishedRun]


def carried(run: FinishedRun, origin: FinishedRun, source: str, target: str) -> bool:
    """Whether a run trains the tickets of another, and these are the data sets of the two."""
    named = run.option("pruner", "ticket")
    return (
        PurePath(str(named)).name == origin.folder.name
        and origin.option("dataset", "name") == source
        and run.option("dataset", "name") == target
    )


@dataclass(frozen=True)
class Beside:
    """The carried ticket less a control, or less the target's own ticket.

    ``kept``: the density with which the source found it. ``limit``: above which the difference is
    to be.
    """

    source: str
    target: str
    kept: float
    to: str
    limit: float = 0.0

    def __call__(self, runs: Runs) -> Found | None:
        run, origin, own = runs["run"], runs["origin"], runs.get("own")
        if not carried(run, origin, self.source, self.target):
            return None
        if own is not None and own.option("dataset", "name") != self.target:
            return None
        found = Carried(self.source, self.target, run, origin, own).held(self.kept, self.to)
        if found is None or found.theirs is None or found.lead is None:
            return None
        other = own if self.to == OWN and own is not None else run
        ours, theirs = (
            of.values(one.arm, one.round, ACCURACY)
            for of, one in ((run, found.ours), (other, found.theirs))
        )
        text = f"{level(ours)} against {level(theirs)}: {change(found.lead)}"
        return ruled(text, found, self.limit, as_good=self.to == OWN)


@dataclass(frozen=True)
class Larger:
    """On one target, the ticket of one source less that of another."""

    first: str
    second: str
    target: str
    kept: float

    def __call__(self, runs: Runs) -> Found | None:
        one, other = runs["first"], runs["second"]
        fits = carried(one, runs["first_origin"], self.first, self.target)
        if not fits or not carried(other, runs["second_origin"], self.second, self.target):
            return None
        cells = (
            Carried(self.first, self.target, one, runs["first_origin"], None),
            Carried(self.second, self.target, other, runs["second_origin"], None),
        )
        levels = [cell.level(self.kept) for cell in cells]
        places = [(TICKET, found.round) for found in levels if found is not None]
        if len(places) < 2:
            return None
        first, second = (Differences(cell.run, ACCURACY) for cell in cells)
        lead = first.beside(places[0], second, places[1])
        if lead is None:
            return None
        ours, theirs = (
            cell.run.values(*place, ACCURACY) for cell, place in zip(cells, places, strict=True)
        )
        text = f"{level(ours)} against {level(theirs)}: {change(lead)}"
        return ruled(text, held(*levels, lead), 0.0, as_good=False)


@dataclass(frozen=True)
class Matrix:
    """A section of docs/results.md: sources by targets, as a picture and as curves."""

    title: str
    name: str
    commands: tuple[str, ...]
    note: str

    def found(self, runs: Sequence[FinishedRun]) -> Transfer | None:
        """The largest matrix that the runs of this name make."""
        every = find_transfers([run for run in runs if run.name == self.name])
        return max(every, key=lambda one: len(one.cells), default=None)

    def drawn(self, runs: Sequence[FinishedRun]) -> dict[str, tuple[Figure, str]]:
        """File stem -> figure and what it shows."""
        transfer = self.found(runs)
        if transfer is None:
            return {}
        figures = {
            "matrix": (matrix_figure(transfer), "the carried ticket less the own, and less random"),
            "curves": (curves_figure(transfer), "accuracy on each target by weights remaining"),
        }
        return {
            f"{self.name}_{key}": (figure, f"{self.title}: {text}")
            for key, (figure, text) in figures.items()
            if figure is not None
        }

    def written(self, runs: Sequence[FinishedRun], shown: Mapping[str, str]) -> str:
        """The section's Markdown below its title; ``shown``: file name -> what it shows."""
        transfer = self.found(runs)
        if transfer is None:
            return f"Not measured here: `{self.commands[0]}`."
        every = transfer.runs
        data = dict.fromkeys(name for run in every if (name := images(run)))
        facts = [
            f"Command: `{self.commands[0]}`, {len(every)} runs, one of them `{command(every[-1])}`"
        ]
        facts += [f"pictures: {', '.join(data)}"] if data else []
        facts += dict.fromkeys(hardware(run) for run in every)
        facts += [extent(run) for run in every if run.state != "done"]
        pictures = [f"![{text}](images/{name})" for name, text in shown.items()]
        return "\n\n".join([self.note, best(transfer).text, *pictures, "; ".join(facts) + "."])
