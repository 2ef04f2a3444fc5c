"""Tickets of some tasks trained on others, each beside the task's own ticket and random masks.

Morcos et al., "One ticket to win them all", NeurIPS 2019, arXiv 1906.02773. Which runs belong
together is read off their configs: a run of given tickets names the run that they come from, and
the target's own tickets are those of the run that does on the target what the source's run did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath

from lth_runner.runs.evidence.differences import Differences, gain
from lth_runner.runs.evidence.estimate import (
    DIFFERENCE_LEVEL,
    LEVEL,
    Estimate,
    Word,
    holm,
    paired,
    two_sample,
)
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.settings import flatten
from lth_runner.runs.evidence.verdict import Level, Verdict, judge
from lth_runner.runs.incidental import is_incidental
from lth_runner.values.measure import Measure
from lth_runner.values.terminal import visible

OWN = "own"  # what a carried ticket is compared with, beside the controls
RANDOM = ("random", "shuffle", "even", "rescaled_random")  # controls whose mask is drawn
TASK = ("dataset", "train", "objective", "covers", "coordinates", "max_samples")
METHOD = ("pruner", "rewind", "origin")
OF_DATA = ("model.shape", "model.num_classes")  # follow the data set
OF_PLACE = ("dataset.root", "dataset.cache")
SEEDS = ("seed", "replicates")

Settings = tuple[tuple[str, str], ...]
Pair = tuple[str, str]  # source, target


@dataclass(frozen=True)
class Carried:
    """Tickets of a source trained on a target: the run, the run they come from, the target's own.

    ``own`` is None where no such run is there.
    """

    source: str
    target: str
    run: FinishedRun
    origin: FinishedRun
    own: FinishedRun | None

    @property
    def pair(self) -> Pair:
        """Source and target."""
        return self.source, self.target

    @cached_property
    def verdict(self) -> Verdict:
        """The verdicts of the run itself."""
        return judge(self.run)

    @cached_property
    def own_verdict(self) -> Verdict | None:
        """The verdicts of the target's own tickets."""
        return None if self.own is None else judge(self.own)

    def level(self, round: int, arm: str = TICKET) -> Level | None:
        """Finds the level of the carried ticket, or of a control beside it."""
        return self.verdict.at(arm, round)

    def own_level(self, round: int) -> Level | None:
        """Finds the level of the target's own ticket of the same round."""
        return None if self.own_verdict is None else self.own_verdict.at(TICKET, round)

    def lead(self, round: int, to: str) -> Estimate | None:
        """Estimates by how much the carried ticket is better than another arm.

        ``to``: a control of the run, or ``own``, the target's own ticket of the same round.
        """
        if to != OWN:
            level = self.level(round, to)
            return None if level is None else level.ticket_lead
        cell = TICKET, round
        if self.own is None or round not in self.own.rounds(TICKET):
            return None
        ours, theirs = (run.values(*cell, run.outcome) for run in (self.run, self.own))
        if not ours or not theirs:
            return None
        first, second = Differences(self.run), Differences(self.own)
        if first.is_paired and second.is_paired:
            found = paired(ours, theirs)
            return found and gain(self.run.measure, found)
        return gain(self.run.measure, two_sample(first.sample(cell), second.sample(cell)))


@dataclass(frozen=True)
class Transfer:
    """A matrix of sources by targets, whose words are those of the sparsest round that all have."""

    cells: tuple[Carried, ...]
    own: Mapping[str, FinishedRun]  # by target

    @property
    def sources(self) -> tuple[str, ...]:
        """The tasks that tickets come from."""
        return tuple(dict.fromkeys(cell.source for cell in self.cells))

    @property
    def targets(self) -> tuple[str, ...]:
        """The tasks that they are trained on."""
        return tuple(sorted({cell.target for cell in self.cells}))

    @property
    def measure(self) -> Measure:
        """The headline measure that all runs share."""
        return self.cells[0].run.measure

    @property
    def runs(self) -> tuple[FinishedRun, ...]:
        """Every run of the matrix, each once."""
        found = [*self.own.values()]
        found += [run for cell in self.cells for run in (cell.origin, cell.run)]
        return tuple({run.folder: run for run in found}.values())

    @property
    def tolerance(self) -> float:
        """What a carried ticket may lose to be near the own one; the strictest of the runs'."""
        return min(cell.verdict.tolerance for cell in self.cells)

    @property
    def controls(self) -> tuple[str, ...]:
        """The controls that some cell has."""
        return tuple(dict.fromkeys(arm for cell in self.cells for arm in cell.run.controls))

    @property
    def random(self) -> str | None:
        """The control that stands for chance: of equal size over all layers, else within each."""
        return next((arm for arm in RANDOM if arm in self.controls), None)

    def at(self, pair: Pair) -> Carried | None:
        """Finds a cell."""
        return next((cell for cell in self.cells if cell.pair == pair), None)

    @cached_property
    def rounds(self) -> tuple[int, ...]:
        """The rounds of tickets that any cell has."""
        found = {level.round for cell in self.cells for level in cell.verdict.of(TICKET)}
        return tuple(sorted(found))

    @cached_property
    def round(self) -> int | None:
        """The sparsest round that all cells have; of none that all have, the sparsest."""
        each = [{level.round for level in cell.verdict.of(TICKET)} for cell in self.cells]
        shared = set.intersection(*each)
        return max(shared or {0, *self.rounds}) or None

    def words(self, round: int, to: str) -> dict[Pair, Word]:
        """Says of each cell whether its ticket is near the own one, or better than a control.

        Near: shown to lose less than the tolerance. Either word is corrected for all cells
        (Holm), so that any wrong one among them has the chance of one.
        """
        leads = {cell.pair: cell.lead(round, to) for cell in self.cells}
        limit = -self.tolerance if to == OWN else 0.0
        known = {
            str(pair): (pair, p)
            for pair, lead in leads.items()
            if lead is not None and (p := lead.p_above(limit)) is not None
        }
        level = LEVEL if to == OWN else DIFFERENCE_LEVEL
        above = holm({name: p for name, (_, p) in known.items()})
        below = holm({name: 1 - p for name, (_, p) in known.items()})
        found: dict[Pair, Word] = {
            pair: "undecided" for pair, lead in leads.items() if lead is not None
        }
        for name, (pair, _) in known.items():
            if above[name] < level:
                found[pair] = "shown"
            elif below[name] < level:
                found[pair] = "refuted"
        return found


def find_transfers(runs: Sequence[FinishedRun]) -> tuple[Transfer, ...]:
    """Finds the matrices that runs make; those of other methods or networks are others."""
    by_id = {run.folder.name: run for run in runs}
    groups: dict[Settings, list[tuple[FinishedRun, FinishedRun]]] = {}
    for run in runs:
        named = run.option("pruner", "ticket")
        origin = by_id.get(PurePath(str(named)).name) if named else None
        if origin is not None and run.measure.name == origin.measure.name:
            groups.setdefault(_kind(run, origin), []).append((run, origin))
    return tuple(_transfer(pairs, runs) for pairs in groups.values())


def _transfer(
    pairs: Sequence[tuple[FinishedRun, FinishedRun]], runs: Sequence[FinishedRun]
) -> Transfer:
    names = _names([one for pair in pairs for one in pair[::-1]])
    cells = [
        Carried(names[_task(origin)], names[_task(run)], run, origin, _own(run, origin, runs))
        for run, origin in pairs
    ]
    # of two runs of a pair, which differ in what was drawn anew, say, the later one counts
    cells.sort(key=lambda cell: str(cell.run.status.get("updated")))
    cells = list({cell.pair: cell for cell in cells}.values())
    cells.sort(key=lambda cell: cell.pair)
    own = {cell.target: cell.own for cell in cells if cell.own is not None}
    return Transfer(tuple(cells), own)


def _own(run: FinishedRun, origin: FinishedRun, runs: Sequence[FinishedRun]) -> FinishedRun | None:
    """Finds the run of the source's method on the target's task, of the same seeds."""
    wanted = (_task(run), _method(origin), _seeds(run), _network(run))
    return next(
        (one for one in runs if (_task(one), _method(one), _seeds(one), _network(one)) == wanted),
        None,
    )


def _kind(run: FinishedRun, origin: FinishedRun) -> Settings:
    """What all cells of a matrix share: network, method, seeds, and how a ticket is carried."""
    how = {f"given.{key}": run.option("pruner", key) for key in ("weights", "round", "sparsity")}
    told = tuple((key, str(value)) for key, value in how.items())
    return (*_network(run), *_method(origin), *_seeds(run), *told)


def _task(run: FinishedRun) -> Settings:
    return _settings(run, TASK)


def _method(run: FinishedRun) -> Settings:
    return _settings(run, METHOD)


def _seeds(run: FinishedRun) -> Settings:
    return _settings(run, SEEDS)


def _network(run: FinishedRun) -> Settings:
    return _settings(run, ("model",))


def _settings(run: FinishedRun, sections: Sequence[str]) -> Settings:
    """Lists the keys of some sections that tell one run from another."""
    flat = flatten({key: run.config.get(key) for key in sections})
    left_out = (*OF_DATA, *OF_PLACE)
    return tuple(
        (key, str(value))
        for key, value in sorted(flat.items())
        if key not in left_out and not is_incidental(key)
    )


def _names(runs: Sequence[FinishedRun]) -> dict[Settings, str]:
    """Names each task: by its data set, its optimizer, both, or all that differs."""
    first: dict[Settings, FinishedRun] = {}
    for run in runs:
        first.setdefault(_task(run), run)

    def data(run: FinishedRun) -> str:
        return str(run.option("dataset", "name"))

    def optimizer(run: FinishedRun) -> str:
        return str(run.choices.get("train") or "")

    def both(run: FinishedRun) -> str:
        return f"{data(run)} {optimizer(run)}"

    ways: list[Callable[[FinishedRun], str]] = [data, optimizer, both]
    for way in ways:
        found = {task: way(run) for task, run in first.items()}
        if all(found.values()) and len(set(found.values())) == len(found):
            return found
    return {task: _differing(task, list(first)) for task in first}


def _differing(task: Settings, others: Sequence[Settings]) -> str:
    """Writes the settings of a task that others have not, by the last parts of their keys."""
    shared = set(others[0]).intersection(*others[1:])
    own = [(key.rsplit(".", 1)[-1], value) for key, value in task if (key, value) not in shared]
    return visible(", ".join(f"{key}={value}" for key, value in own) or "as it is")
