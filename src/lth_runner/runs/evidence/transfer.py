"""Tickets of some tasks trained on others, each beside the task's own ticket and random masks.

Morcos et al., "One ticket to win them all", NeurIPS 2019, arXiv 1906.02773. Tickets are compared
at one density: that with which their source found them. On a target whose output layer is its own,
and dense, a carried ticket keeps more of the whole than its source's did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from lth_runner.runs.evidence.differences import Differences
from lth_runner.runs.evidence.estimate import DIFFERENCE_LEVEL, LEVEL, Estimate, Word
from lth_runner.runs.evidence.judge import Held, judge, words
from lth_runner.runs.evidence.means import density as density_of
from lth_runner.runs.evidence.means import number
from lth_runner.runs.evidence.merged import levels_of, same_density
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.runs.folder import Row
from lth_runner.values.measure import Measure

OWN = "own"  # what a carried ticket is compared with, beside the controls
RANDOM = ("random", "shuffle", "even", "rescaled_random")  # controls whose mask is drawn

Pair = tuple[str, str]  # source, target


@dataclass(frozen=True)
class Carried:
    """Tickets of a source trained on a target: the run, the run they come from, the target's own.

    ``own`` is None where no such run is there. A ``density`` is that with which a ticket was found,
    to rounding.
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

    @cached_property
    def weight(self) -> float:
        """The share of a network that two weights are: networks of other heads round apart."""
        nums = [found for run in (self.run, self.origin) if (found := _num_prunable(run))]
        return 2 / min(nums) if nums else 0.0

    @cached_property
    def found(self) -> Mapping[float, Level]:
        """The carried tickets by the density they were found with; of one density, the last."""
        return {self._density(level): level for level in self.verdict.of(TICKET)}

    def level(self, density: float, arm: str = TICKET) -> Level | None:
        """Finds the level of the carried ticket, or of a control beside it."""
        same = [(d, x) for d, x in self.found.items() if same_density(d, density, self.weight)]
        _, level = min(same, key=lambda one: abs(one[0] - density), default=(None, None))
        return None if level is None else self.verdict.at(arm, level.round)

    def own_level(self, density: float) -> Level | None:
        """Finds the level of the target's own ticket."""
        levels = [] if self.own_verdict is None else self.own_verdict.of(TICKET)
        same = [x for x in levels if same_density(x.density, density, self.weight)]
        return min(same, key=lambda level: abs(level.density - density), default=None)

    def lead(self, density: float, to: str) -> Estimate | None:
        """Estimates by how much the carried ticket is better than another arm.

        ``to``: a control of the run, or ``own``, the target's own ticket; None where there is none
        of that density.
        """
        held = self.held(density, to)
        return None if held is None else held.lead

    def held(self, density: float, to: str) -> Held | None:
        """Holds the carried ticket against another arm; None where it is not trained."""
        ours = self.level(density)
        if ours is None:
            return None
        if to != OWN:
            control = self.level(density, to)
            return Held(ours, control, None if control is None else control.ticket_lead)
        theirs = self.own_level(density)
        if theirs is None or self.own is None:
            return Held(ours, None, None)
        first, second = Differences(self.run), Differences(self.own)
        lead = first.beside((TICKET, ours.round), second, (TICKET, theirs.round))
        return Held(ours, theirs, lead)

    def _density(self, level: Level) -> float:
        """Finds the density with which a ticket was found: that of its layers that are pruned.

        That of the run where no round of the source has it, as of a round that holds tickets of
        several.
        """
        seed = self.run.option("pruner", "seed")
        ours = self.run.at(TICKET, level.round)
        for round in self.origin.rounds(TICKET):
            by_seed = {row["seed"]: row for row in self.origin.at(TICKET, round)}
            pairs = [(row, by_seed.get(row["seed"] if seed is None else seed)) for row in ours]
            if all(source is not None and _is_carried(row, source) for row, source in pairs):
                found = self.origin.density(TICKET, round)
                return level.density if found is None else found
        return level.density


def _is_carried(row: Row, source: Row) -> bool:
    """Returns whether a ticket keeps as much of each layer that it prunes as another."""
    ours, theirs = (one.get("layer_density") for one in (row, source))
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        pruned = [name for name in ours if name in theirs and ours[name] < 1]
        if pruned:
            return all(same_density(ours[name], theirs[name]) for name in pruned)
    kept, found = density_of(row), density_of(source)
    return kept is not None and found is not None and same_density(kept, found)


def _num_prunable(run: FinishedRun) -> float | None:
    rows = (*run.rows[:1], run.problem)
    return next((found for row in rows if (found := number(row.get("num_prunable")))), None)


@dataclass(frozen=True)
class Transfer:
    """A matrix of sources by targets, whose words are those of the sparsest level that all have.

    ``told``: the settings that tell it from other matrices, if there are some.
    """

    cells: tuple[Carried, ...]
    own: Mapping[str, FinishedRun]  # by target
    told: str = ""

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
    def densities(self) -> tuple[float, ...]:
        """The densities of the tickets that any cell has, falling."""
        weight = max(cell.weight for cell in self.cells)
        return levels_of((density for cell in self.cells for density in cell.found), weight)

    @cached_property
    def density(self) -> float | None:
        """The sparsest density that all cells have; of none that all have, the sparsest."""
        shared = [d for d in self.densities if all(cell.level(d) for cell in self.cells)]
        return min(shared or self.densities, default=None)

    def words(self, density: float, to: str) -> dict[Pair, Word]:
        """Says of each cell whether its ticket is near the own one, or better than a control.

        Near: shown to lose less than the tolerance. Either word is corrected for all cells
        (Holm), so that any wrong one among them has the chance of one.
        """
        held = {c.pair: found for c in self.cells if (found := c.held(density, to)) is not None}
        if to == OWN:
            return words(held, -self.tolerance, LEVEL, as_good=True)
        return words(held, 0.0, DIFFERENCE_LEVEL, as_good=False)
