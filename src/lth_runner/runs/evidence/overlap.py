"""How far masks of different seeds or rewind steps agree, from the tickets in run folders."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from lth_runner.runs.evidence.margins import kept_chances
from lth_runner.runs.evidence.means import even_places, is_dense, mean, number
from lth_runner.runs.evidence.rows import TICKET, FinishedRun, rewind_step
from lth_runner.runs.folder import TICKETS, Row
from lth_runner.runs.one_run import ticket_name
from lth_runner.values.files import open_regular

FILE = re.compile(r"round-(\d+)(?:-seed-(\d+))?\.safetensors")
MAX_ROUNDS = 6
MAX_WEIGHTS = 20_000_000  # read in all; what goes beyond leaves out rounds

Kept = Mapping[str, NDArray[np.bool_]]
Place = tuple[int, int]  # rewind step, seed


@dataclass(frozen=True)
class MaskOverlap:
    """Means over pairs of masks, beside what chance expects of three kinds of masks like them.

    `by_units`: those that keep as many weights at every output and every input of each layer, with
    the standard deviation that chance gives the mean; `shuffled`: those of the same layer
    densities; `random`: of the same density. `of` names what was compared: a round, or two rewind
    steps. `num_seeds`: how many seeds had it.
    """

    of: str
    density: float
    num_seeds: int
    jaccard: float
    by_units: float
    by_units_std: float
    shuffled: float
    random: float


def seed_overlaps(run: FinishedRun) -> tuple[MaskOverlap, ...]:
    """Compares some of the rounds with tickets of two seeds or more, the last among them."""
    files: dict[int, list[Path]] = {}
    for path in sorted((run.folder / TICKETS).glob("round-*.safetensors")):
        if match := FILE.fullmatch(path.name):
            files.setdefault(int(match[1]), []).append(path)
    several = sorted(round for round, paths in files.items() if len(paths) > 1)
    found: list[MaskOverlap] = []
    read = 0
    for place in reversed(even_places(len(several), MAX_ROUNDS)):  # the last one first
        round = several[place]
        if read > MAX_WEIGHTS:
            break
        masks = [mask for path in files[round] if (mask := masks_of(path))]
        if len(masks) < 2 or any(mask.keys() != masks[0].keys() for mask in masks):
            continue
        read += sum(layer.size for mask in masks for layer in mask.values())
        overlap = overlap_of(str(round), masks)
        if overlap.density < 1:
            found.append(overlap)
    return tuple(reversed(found))


def masks_of(path: Path) -> Kept:
    """Reads the kept weights by name, without the weights themselves; empty where it cannot."""
    try:
        open_regular(path).close()  # a named pipe would wait for a writer
        with safe_open(path, framework="np") as opened:
            names = [name for name in opened.keys() if name.startswith("mask.")]  # noqa: SIM118
            return {name.removeprefix("mask."): opened.get_tensor(name) for name in names}
    except (OSError, SafetensorError):  # a run that still writes, or a file cut off
        return {}


def overlap_of(of: str, masks: Sequence[Kept]) -> MaskOverlap:
    """Computes J = sum |A and B| / sum |A or B| over layers, mean over pairs.

    Chance expects c = sum p q of weights in both, by the chances p, q of each weight in either:
    c / (|A| + |B| - c), a ratio of expectations. These chances are by inputs and outputs
    (`kept_chances`), the densities of layers, or that of all.
    """
    pairs = list(combinations(masks, 2))
    means, variances = _shared_by_units(masks)
    chance = [_jaccard_of(_num(one) + _num(other), shared)
              for (one, other), shared in zip(pairs, means, strict=True)]  # fmt: skip
    slopes = [(1 + j) / (_num(one) + _num(other) - shared) if shared else 0.0
              for (one, other), shared, j in zip(pairs, means, chance, strict=True)]  # fmt: skip
    squares = math.fsum(v * slope**2 for v, slope in zip(variances, slopes, strict=True))
    return MaskOverlap(
        of=of,
        density=mean(_density(mask) for mask in masks),
        num_seeds=len(masks),
        jaccard=mean(jaccard(one, other) for one, other in pairs),
        by_units=mean(chance),
        by_units_std=math.sqrt(squares) / len(pairs),
        shuffled=mean(_chance([(float(one[n].mean()), float(other[n].mean()), one[n].size)
                               for n in one]) for one, other in pairs),
        random=mean(_chance([(_density(one), _density(other), 1)]) for one, other in pairs),
    )  # fmt: skip


def _shared_by_units(masks: Sequence[Kept]) -> tuple[list[float], list[float]]:
    """Computes, for each pair, mean and variance of the weights that chance puts into both.

    sum p q, and sum p (1 - p) q (1 - q): counts of inputs and outputs stand still, so that single
    weights alone vary.
    """
    pairs = list(combinations(range(len(masks)), 2))
    means, variances = [0.0] * len(pairs), [0.0] * len(pairs)
    for name in masks[0]:  # a layer at a time, for the memory that its chances take
        chances = [kept_chances(mask[name]) for mask in masks]
        for place, (one, other) in enumerate(pairs):
            both = chances[one] * chances[other]
            means[place] += float(both.sum())
            variances[place] += float((both * (1 - chances[one]) * (1 - chances[other])).sum())
    return means, variances


def _num(mask: Kept) -> int:
    return sum(int(layer.sum()) for layer in mask.values())


def _density(mask: Kept) -> float:
    return _num(mask) / sum(layer.size for layer in mask.values())


def _jaccard_of(num: int, shared: float) -> float:
    """Computes the Jaccard index of sets of so many together that share so many."""
    return shared / (num - shared) if num else 1.0


def shared_by_layers(one: Kept, other: Kept) -> tuple[float, float]:
    """Computes the Jaccard index that chance expects of these layer densities, and its deviation.

    A layer of n weights, shares p and q of them kept, has n p q in common, with the variance
    n^2 p (1 - p) q (1 - q) / (n - 1) of a hypergeometric count.
    """
    counts = [(int(one[n].sum()), int(other[n].sum()), one[n].size) for n in one]
    both = math.fsum(a * b / size for a, b, size in counts)
    variance = math.fsum(
        a * b * (size - a) * (size - b) / (size**2 * max(1, size - 1)) for a, b, size in counts
    )
    either = sum(a + b for a, b, _ in counts) - both
    index = both / either if either else 1.0
    return index, (1 + index) / either * math.sqrt(variance) if either else 0.0


def jaccard(one: Kept, other: Kept) -> float:
    """Computes the Jaccard index of two masks over all their layers."""
    both = sum(int((one[name] & other[name]).sum()) for name in one)
    either = sum(int((one[name] | other[name]).sum()) for name in one)
    return both / either if either else 1.0


def _chance(layers: Sequence[tuple[float, float, int]]) -> float:
    both = sum(a * b * size for a, b, size in layers)
    either = sum((a + b - a * b) * size for a, b, size in layers)
    return both / either if either else 1.0


# --- between the rewind steps of a sweep


def step_overlaps(runs: Iterable[FinishedRun]) -> tuple[MaskOverlap, ...]:
    """Compares every two rewind steps that share seeds, at their sparsest common mask."""
    files: dict[int, dict[Place, Path]] = {}  # by number of weights kept
    for run in runs:
        step = rewind_step(run)
        for row in run.rows:
            count, path = number(row.get("num_kept")), _ticket(run, row)
            if step is None or count is None or row["arm"] != TICKET or is_dense(row):
                continue
            if path.is_file():
                files.setdefault(int(count), {})[step, row["seed"]] = path
    return next((found for count in sorted(files) if (found := _pairs(files[count]))), ())


def _ticket(run: FinishedRun, row: Row) -> Path:
    return run.folder / ticket_name(row, run.config.get("seed"))


def _pairs(files: Mapping[Place, Path]) -> tuple[MaskOverlap, ...]:
    masks = {place: mask for place, path in files.items() if (mask := masks_of(path))}
    found = []
    for first, second in combinations(sorted({step for step, _ in masks}), 2):
        over = [
            overlap_of("", (mask, masks[second, seed]))
            for (step, seed), mask in masks.items()
            if step == first and masks.get((second, seed), {}).keys() == mask.keys()
        ]
        if over:
            found.append(_mean_of(f"{first} and {second}", over))
    return tuple(found)


def _mean_of(of: str, over: Sequence[MaskOverlap]) -> MaskOverlap:
    return MaskOverlap(
        of=of,
        density=mean(one.density for one in over),
        num_seeds=len(over),
        jaccard=mean(one.jaccard for one in over),
        by_units=mean(one.by_units for one in over),
        by_units_std=math.hypot(*(one.by_units_std for one in over)) / len(over),
        shuffled=mean(one.shuffled for one in over),
        random=mean(one.random for one in over),
    )
