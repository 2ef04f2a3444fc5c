"""The probe of how near two networks are once the units of one stand in the other's order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lth_runner.probe.connectivity import barrier, line
from lth_runner.probe.probe import Value
from lth_runner.probe.reference import check_count
from lth_runner.problem.task import Task
from lth_runner.runs.folder import read_problem, read_rounds
from lth_runner.runs.one_run import one_run, trained_path
from lth_runner.runs.origin import TICKET, FromRun
from lth_runner.runs.rebuilt import rebuilt
from lth_runner.search.ticket import Past, Trained, dense_ticket
from lth_runner.store.ended import read_end
from lth_runner.study.permutation import Matching, Symmetries
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State

KEY = "probe.rebasin.run"
MOST_POINTS = 1000


@dataclass(frozen=True)
class Rebasin:
    """Measures the line to another training before and after its units are put in this one's order.

    The other is the training of ``seed`` and of the same round: of ``run`` where one is named (its
    tickets), else of this run's dense training, whose replicates are trained together. Later rounds
    need a ``run``: the run's own folder, once it is there. A replicate is not held against itself.

    ``rebasin_barrier_before`` and ``_after``: the largest error on the line less the mean of its
    ends, test split, running statistics computed anew where there are some;
    ``rebasin_error_before_curve`` and ``_after_curve``; ``rebasin_distance_before`` and ``_after``:
    L2 between all trained weights. Of tickets the other's mask is permuted as its weights are:
    ``rebasin_mask_overlap_before`` and ``_after`` are the Jaccard index of the two masks, above
    chance after where tickets agree but for the numbering of units.
    Ainsworth et al., ICLR 2023, arXiv 2209.04836. Raises UserError for networks that cannot be
    permuted, or differ.
    """

    run: str | None = field(default=None, compare=False)
    seed: int | None = None
    num_points: int = 11
    num_samples: int = 10_000
    matching: Matching = field(default_factory=Matching)
    content: str = field(init=False, default="")  # which trainings are looked at

    def __post_init__(self) -> None:
        check_count("rebasin.num_samples", self.num_samples)
        num = self.num_points
        if isinstance(num, bool) or not isinstance(num, int) or not 2 <= num <= MOST_POINTS:
            raise UserError(
                f"probe.rebasin.num_points={num!r} must be a whole number from 2 to {MOST_POINTS}"
            )
        if self.run is not None:
            keys = [str(row["training_key"]) for row in self._rows if row.get("training_key")]
            object.__setattr__(self, "content", ",".join(sorted(keys)))

    @cached_property
    def _folder(self) -> Path:
        assert self.run is not None
        return one_run(self.run, f"{KEY}={self.run}")

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        rows = [row for row in read_rounds(self._folder) if row.get("arm") == TICKET]
        seeds = sorted({row["seed"] for row in rows})
        if self.seed is not None and self.seed not in seeds:
            raise UserError(
                f"{KEY}={self.run} has no training of seed {self.seed}: it has {seeds}; set "
                "probe.rebasin.seed to one of those"
            )
        return rows

    def check(self, task: Task) -> None:
        """Raises UserError for a network that cannot be permuted, and for one of other tensors."""
        symmetries = Symmetries.of(_stock(task))
        if self.run is None:
            return
        other = FromRun(self.run, seed=self.seed, key=KEY).weights
        own = symmetries.shapes
        there = {name: tuple(value.shape) for name, value in other.items()}
        if odd := sorted(n for n in own.keys() | there.keys() if own.get(n) != there.get(n)):
            raise UserError(
                f"{KEY}={self.run}: its network has other tensors than this one ({odd[0]}): "
                "name a run of the same network"
            )

    def check_replicates(self, tasks: Sequence[Task]) -> None:
        """Raises UserError where there is nothing to hold a replicate against."""
        if self.run is None and all(task.seed == self.seed for task in tasks):
            raise UserError(
                f"probe=rebasin holds each replicate against that of seed {self.seed}, and there "
                "is no other: set replicates=2 or more, or name another run, "
                f"{KEY}=outputs/<name>/<run_id>"
            )

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        other = self._other(task, len(past), trained)
        if other is None:
            return
        stock = _stock(task)
        symmetries = Symmetries.of(stock)
        own = task.merged(trained.weights)
        mask, weights = other
        found = self.matching(symmetries, own, weights)
        moved = symmetries.applied(weights, found.orders)
        for when, end in (("before", weights), ("after", moved)):
            curves = line(stock, own, end, self.num_points, self.num_samples)
            errors = curves.get("test_recomputed", curves["test"])
            yield f"rebasin_barrier_{when}", barrier(errors)
            yield f"rebasin_error_{when}_curve", errors
            yield f"rebasin_distance_{when}", distance(own, end, symmetries.parameters)
        here = task.stock_names(trained.mask)
        if here.num_kept < here.num_prunable and mask.keys() == here.keys():
            turned = Mask(symmetries.applied(mask, found.orders))
            yield "rebasin_mask_overlap_before", overlap(here, mask)
            yield "rebasin_mask_overlap_after", overlap(here, turned)

    def _other(self, task: Task, round: int, trained: Trained) -> tuple[Mask, State] | None:
        """Finds the training that this one is held against; None where there is none."""
        if self.run is not None:
            seed = self._rows[0]["seed"] if self.seed is None and self._rows else self.seed
            for row in self._rows:
                fits = row["round"] == round and row["seed"] == seed and not row.get("diverged")
                if fits and row.get("training_key") != trained.key:
                    chosen = FromRun(self.run, round, seed, key=KEY)
                    mask = read_end(trained_path(chosen.folder, chosen.row))[0]
                    if read_problem(chosen.folder).get("coordinates"):
                        mask = rebuilt(chosen.folder).stock_names(mask)
                    return mask, chosen.weights
            return None
        if round or self.seed is None or task.seed == self.seed:
            return None
        there = task.with_seed(self.seed)
        dense = dense_ticket(there)
        if trained.ticket.mask.num_kept < trained.ticket.mask.num_prunable:
            return None
        sibling = trained.sibling(dense, f"rebasin-{self.seed}", there)
        if sibling.diverged:
            return None
        return there.stock_names(sibling.mask), there.merged(sibling.weights)


def distance(one: State, other: State, names: frozenset[str]) -> float:
    """Computes the L2 distance of two networks' trained weights."""
    squares = [(one[n].double() - other[n].double()).square().sum() for n in sorted(names)]
    return math.sqrt(float(torch.stack(squares).sum()))


def overlap(one: Mask, other: Mask) -> float:
    """Computes the Jaccard index of two masks of one network."""
    both = sum(int((one[name] & other[name]).sum()) for name in one)
    either = sum(int((one[name] | other[name]).sum()) for name in one)
    return both / either if either else 1.0


def _stock(task: Task) -> Task:
    """The same problem in the network's own weights."""
    return replace(task, coordinates=None) if task.coordinates is not None else task
