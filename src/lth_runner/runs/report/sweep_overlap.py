"""How far the masks of a sweep's rewind steps agree, by the tickets in its run folders."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from lth_runner.runs.folder import TICKETS
from lth_runner.runs.report.overlap import MaskOverlap, masks_of, overlap_of
from lth_runner.runs.report.rows import TICKET, FinishedRun, Row, is_dense, mean, number
from lth_runner.runs.report.sweep import Sweep, rewind_step

READING = (
    "Jaccard index of the masks that two rewind steps lead to from the same seed, at the largest "
    "sparsity that several steps reached, mean over seeds; beside what masks of the same layer "
    "densities and of the same density alone share by chance."
)

Place = tuple[int, int]  # rewind step, seed


def step_overlaps(sweep: Sweep) -> tuple[MaskOverlap, ...]:
    """Compares every two rewind steps that share seeds, at their sparsest common mask."""
    files: dict[int, dict[Place, Path]] = {}  # by number of weights kept
    for run in sweep.runs:
        step = rewind_step(run)
        for row in run.rows:
            count, path = number(row.get("num_kept")), _ticket(run, row)
            if step is None or count is None or row["arm"] != TICKET or is_dense(row):
                continue
            if path.is_file():
                files.setdefault(int(count), {})[step, row["seed"]] = path
    return next((found for count in sorted(files) if (found := _pairs(files[count]))), ())


def _ticket(run: FinishedRun, row: Row) -> Path:
    suffix = "" if row["seed"] == run.config.get("seed") else f"-seed-{row['seed']}"
    return run.folder / TICKETS / f"round-{row['round']:02d}{suffix}.safetensors"


def _pairs(files: Mapping[Place, Path]) -> tuple[MaskOverlap, ...]:
    masks = {place: mask for place, path in files.items() if (mask := masks_of(path))}
    found = []
    for first, second in combinations(sorted({step for step, _ in masks}), 2):
        of = f"{first} and {second}"
        over = [
            overlap_of(of, (mask, masks[second, seed]))
            for (step, seed), mask in masks.items()
            if step == first and masks.get((second, seed), {}).keys() == mask.keys()
        ]
        if over:
            means = [mean(getattr(one, name) for one in over)
                     for name in ("density", "jaccard", "shuffled", "random")]  # fmt: skip
            found.append(MaskOverlap(of, means[0], len(over), *means[1:]))
    return tuple(found)
