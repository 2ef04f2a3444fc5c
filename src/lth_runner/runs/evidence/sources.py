"""What is said of the sources of a matrix of carried tickets: which are universal, how alike.

Chen et al., NeurIPS 2020, arXiv 2007.12223, call the tickets of a source universal where they match
on every task; a ticket matches there whose mean is at most one standard deviation of the dense
trainings below theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from lth_runner.runs.evidence.means import even_places
from lth_runner.runs.evidence.merged import same_density
from lth_runner.runs.evidence.overlap import Kept, jaccard, masks_of, shared_by_layers
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.transfer import Transfer
from lth_runner.runs.evidence.verdict import Level
from lth_runner.runs.one_run import ticket_name

MOST_MASKS = 12  # of sources that are compared


@dataclass(frozen=True)
class OnTarget:
    """The tickets of a source on a target beside the dense network: a gain, and its yardstick.

    ``spread``: the standard deviation of the dense trainings, None of one seed.
    """

    gain: float
    spread: float | None
    n: int

    @property
    def matches(self) -> bool | None:
        """Whether the mean is at most one standard deviation below; None without one."""
        return None if self.spread is None else self.gain >= -self.spread


@dataclass(frozen=True)
class Universality:
    """The tickets of a source on all targets that they were trained on."""

    source: str
    targets: Mapping[str, OnTarget]
    num_targets: int  # of the matrix

    @property
    def num_matching(self) -> int:
        """On how many targets the tickets match, by the rule of one standard deviation."""
        return sum(one.matches is True for one in self.targets.values())

    @property
    def word(self) -> str:
        """Says ``yes`` or ``no``; ``open`` while a target lacks, or has one seed alone."""
        found = [one.matches for one in self.targets.values()]
        if any(one is False for one in found):
            return "no"
        whole = len(found) == self.num_targets and None not in found
        return "yes" if whole else "open"


def universality(transfer: Transfer, density: float) -> tuple[Universality, ...]:
    """Judges every source by its tickets of a density, its own task among the targets."""
    sign = 1.0 if transfer.measure.better == "higher" else -1.0
    found = []
    for source in transfer.sources:
        targets: dict[str, OnTarget] = {}
        for cell in transfer.cells:
            if cell.source == source:
                one = _beside(cell.level(density), cell.verdict.dense, sign)
            elif cell.target == source and cell.own_verdict is not None:
                one = _beside(cell.own_level(density), cell.own_verdict.dense, sign)
            else:
                continue
            if one is not None:
                targets[cell.target] = one
        found.append(Universality(source, dict(sorted(targets.items())), len(transfer.targets)))
    return tuple(found)


def _beside(ours: Level | None, dense: Level | None, sign: float) -> OnTarget | None:
    if ours is None or ours.mean is None or dense is None or dense.mean is None:
        return None
    return OnTarget(sign * (ours.mean - dense.mean), dense.std, min(ours.n, dense.n))


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
