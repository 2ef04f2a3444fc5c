"""What is said of the sources of a matrix of carried tickets: which are universal, how alike.

Chen et al., NeurIPS 2020, arXiv 2007.12223, call the tickets of a source universal where they match
on every task. That they match is decided here as everywhere; the paper's own rule, a mean at most
one standard deviation of the dense trainings below theirs, is told beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from lth_runner.runs.evidence.estimate import LEVEL, Estimate, Word
from lth_runner.runs.evidence.judge import Held, words
from lth_runner.runs.evidence.means import even_places
from lth_runner.runs.evidence.merged import same_density
from lth_runner.runs.evidence.overlap import Kept, jaccard, masks_of, shared_by_layers
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.transfer import Transfer
from lth_runner.runs.evidence.verdict import Level, Verdict
from lth_runner.runs.one_run import ticket_name

MOST_MASKS = 12  # of sources that are compared


@dataclass(frozen=True)
class OnTarget:
    """The tickets of a source on a target beside the dense network: by how much they are better.

    ``held``: both levels; ``word``: whether they match, all targets of the source counted in, None
    where the dense network is at chance.
    """

    held: Held
    gain: Estimate
    word: Word | None

    @property
    def spread(self) -> float | None:
        """The standard deviation of the dense trainings, None of one seed."""
        return None if self.held.theirs is None else self.held.theirs.std

    @property
    def within_spread(self) -> bool | None:
        """Whether the mean is at most one standard deviation below; None without one."""
        return None if self.spread is None else self.gain.difference >= -self.spread


@dataclass(frozen=True)
class Universality:
    """The tickets of a source on all targets that they were trained on."""

    source: str
    targets: Mapping[str, OnTarget]
    num_targets: int  # of the matrix

    @property
    def num_shown(self) -> int:
        """On how many targets the tickets are shown to match."""
        return sum(one.word == "shown" for one in self.targets.values())

    @property
    def word(self) -> Word:
        """Whether they match on every target: refuted where one is, undecided while one lacks."""
        if any(one.word == "refuted" for one in self.targets.values()):
            return "refuted"
        return "shown" if self.num_shown == self.num_targets else "undecided"

    @property
    def num_within(self) -> int:
        """On how many targets the tickets are within one standard deviation."""
        return sum(one.within_spread is True for one in self.targets.values())

    @property
    def as_published(self) -> str:
        """Says ``yes`` or ``no`` by the paper's rule; ``open`` while a target has no deviation."""
        found = [one.within_spread for one in self.targets.values()]
        if any(one is False for one in found):
            return "no"
        whole = len(found) == self.num_targets and None not in found
        return "yes" if whole else "open"


def universality(transfer: Transfer, density: float) -> tuple[Universality, ...]:
    """Judges every source by its tickets of a density, its own task among the targets."""
    found = []
    for source in transfer.sources:
        beside: dict[str, Held] = {}
        for cell in sorted(transfer.cells, key=lambda cell: cell.target):
            if cell.source == source:
                beside |= _held(cell.target, cell.level(density), cell.verdict)
            elif cell.target == source:
                beside |= _held(cell.target, cell.own_level(density), cell.own_verdict)
        matches = words(beside, -transfer.tolerance, LEVEL, as_good=True)
        targets = {
            target: OnTarget(held, held.lead, matches.get(target))
            for target, held in beside.items()
            if held.lead is not None
        }
        found.append(Universality(source, targets, len(transfer.targets)))
    return tuple(found)


def _held(target: str, ours: Level | None, verdict: Verdict | None) -> dict[str, Held]:
    if ours is None or verdict is None:
        return {}
    return {target: Held(ours, verdict.dense, ours.against_dense)}


# --- how alike the tickets of two sources are


@dataclass(frozen=True)
class Alike:
    """The Jaccard index of the masks of two sources, and what chance expects of their layers.

    ``chance``: of masks with the same density in every layer, drawn at random, and ``std`` by how
    much they vary.
    """

    first: str
    second: str
    jaccard: float
    chance: float
    std: float


def alike(transfer: Transfer, density: float) -> tuple[Alike, ...]:
    """Compares the masks of every two sources at a density, over the tensors that both have."""
    origins = {cell.source: cell.origin for cell in transfer.cells}
    origins |= {target: own for target, own in transfer.own.items() if target not in origins}
    names = sorted(origins)
    masks: dict[str, Kept] = {}
    for place in even_places(len(names), MOST_MASKS):
        if mask := _mask(origins[names[place]], density):
            masks[names[place]] = mask
    pairs = [(one, masks[one], other, masks[other]) for one, other in combinations(masks, 2)]
    return tuple(found for pair in pairs if (found := _alike(*pair)) is not None)


def _alike(first: str, one: Kept, second: str, other: Kept) -> Alike | None:
    common = [n for n in one if n in other and one[n].shape == other[n].shape]
    if not common:
        return None
    ours, theirs = ({name: mask[name] for name in common} for mask in (one, other))
    chance, std = shared_by_layers(ours, theirs)
    return Alike(first, second, jaccard(ours, theirs), chance, std)


def _mask(run: FinishedRun, density: float) -> Kept:
    """Reads the mask of a run's first seed at a density; empty where there is none."""
    rows = [row for number in run.rounds(TICKET) for row in run.at(TICKET, number)]
    for row in rows:
        if same_density(float(row.get("density") or 0), density):
            return masks_of(run.folder / ticket_name(row, run.config.get("seed")))
    return {}
