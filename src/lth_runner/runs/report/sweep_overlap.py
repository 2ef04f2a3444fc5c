"""How far the masks of a sweep's rewind steps agree, from the tickets in its run folders."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from lth_runner.runs.report.overlap import Overlap, masks_of, overlap_of
from lth_runner.runs.report.rows import TICKET, Row, Run, is_dense, mean, number
from lth_runner.runs.report.sweep import Sweep, rewind_step
from lth_runner.runs.report.wording import kept

READING = (
    "Jaccard index of the masks that two rewind steps lead to from the same seed, at the largest "
    "sparsity that several steps reached, mean over seeds; beside what masks of the same layer "
    "densities and of the same density alone share by chance."
)

Place = tuple[int, int]  # rewind step, seed


@dataclass(frozen=True)
class StepOverlap:
    """Two rewind steps; `jaccard`, `shuffled` and `random` as in Overlap, means over seeds."""

    first: int
    second: int
    density: float
    num_seeds: int
    jaccard: float
    shuffled: float
    random: float


def step_overlaps(sweep: Sweep) -> tuple[StepOverlap, ...]:
    """Every two rewind steps that share seeds, at their sparsest common mask; often none."""
    files: dict[int, dict[Place, Path]] = {}  # by number of weights kept
    for run in sweep.runs:
        step = rewind_step(run)
        for row in run.rows:
            count, path = number(row.get("num_kept")), _ticket(run, row)
            if step is None or count is None or row["arm"] != TICKET or is_dense(row):
                continue
            if path.is_file():
                files.setdefault(int(count), {})[step, row["seed"]] = path
    for num_kept in sorted(files):
        if found := _pairs(files[num_kept]):
            return found
    return ()


def _ticket(run: Run, row: Row) -> Path:
    suffix = "" if row["seed"] == run.config.get("seed") else f"-seed-{row['seed']}"
    return run.folder / "tickets" / f"round-{row['round']:02d}{suffix}.safetensors"


def _pairs(files: Mapping[Place, Path]) -> tuple[StepOverlap, ...]:
    masks = {place: mask for place, path in files.items() if (mask := masks_of(path))}
    found = []
    for first, second in combinations(sorted({step for step, _ in masks}), 2):
        pairs = [
            (mask, masks[second, seed])
            for (step, seed), mask in masks.items()
            if step == first and (second, seed) in masks
        ]
        alike = [pair for pair in pairs if pair[0].keys() == pair[1].keys()]
        if alike:
            found.append(_mean(first, second, [overlap_of(0, pair) for pair in alike]))
    return tuple(found)


def _mean(first: int, second: int, over: list[Overlap]) -> StepOverlap:
    return StepOverlap(
        first=first,
        second=second,
        density=mean(one.density for one in over),
        num_seeds=len(over),
        jaccard=mean(one.jaccard for one in over),
        shuffled=mean(one.shuffled for one in over),
        random=mean(one.random for one in over),
    )


def step_overlap_table(found: tuple[StepOverlap, ...]) -> tuple[list[str], list[list[str]]]:
    header = ["rewind steps", "weights kept", "seeds", "overlap", "shuffled within layers",
              "random"]  # fmt: skip
    return header, [
        [f"{one.first} and {one.second}", kept(one.density), str(one.num_seeds),
         f"{one.jaccard:.3f}", f"{one.shuffled:.3f}", f"{one.random:.3f}"]
        for one in found
    ]  # fmt: skip
