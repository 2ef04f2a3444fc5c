"""Trained networks of one architecture, of which others are to be made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from lth_runner.problem.task import Task
from lth_runner.runs.ended_weights import ended
from lth_runner.runs.folder import read_rounds, unfinished
from lth_runner.runs.one_run import one_run, trained_path
from lth_runner.runs.origin import TICKET
from lth_runner.runs.rebuilt import rebuilt
from lth_runner.store.store import Entry
from lth_runner.values import identity
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State

KEY = "dataset.run"


@dataclass(frozen=True, eq=False)
class Member:
    """One trained network; ``condition``: which of the runs it is of. ``entry`` of the Store."""

    state: State
    mask: Mask
    condition: int
    entry: Entry

    @cached_property
    def fingerprint(self) -> str:
        """A hash of its weights."""
        return states.fingerprint(self.state)


@dataclass(frozen=True, eq=False)
class Population:
    """Networks of one architecture; ``tasks``: the problem of each run, in stock weights.

    ``mask``: the one that all have, None where they are dense. Raises UserError for networks of
    other tensors, and for masks of their own: a flow over surviving weights needs one mask.
    """

    tasks: tuple[Task, ...]
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        first = self.members[0]
        shapes = {name: value.shape for name, value in first.state.items()}
        for other in self.members:
            there = {name: value.shape for name, value in other.state.items()}
            if odd := sorted(n for n in shapes.keys() | there.keys()
                             if shapes.get(n) != there.get(n)):  # fmt: skip
                raise UserError(
                    f"the networks of {KEY} differ in {odd[0]}, of shape "
                    f"{_shape(first.state, odd[0])} in one and {_shape(other.state, odd[0])} in "
                    "another: name runs of one architecture"
                )
            if other.mask.fingerprint != first.mask.fingerprint:
                raise UserError(
                    f"the networks of {KEY} have masks of their own, and a flow over surviving "
                    "weights needs one that all share: train one ticket from many starts, "
                    "pruner=given pruner.ticket=<run> pruner.seed=0, or take dense networks "
                    "(dataset.round=0)"
                )

    @classmethod
    def of_runs(
        cls, runs: Sequence[str], *, round: int, arm: str = TICKET, num: int | None = None
    ) -> Population:
        """Reads the trainings of finished runs, ``num`` of each at most, that did not diverge.

        Raises UserError for runs that are not finished, or have none of that round and arm.
        """
        tasks, members = [], []
        for condition, run in enumerate(runs):
            folder = one_run(run, f"{KEY}={run}")
            task = rebuilt(folder)
            own = list(_members(folder, task, condition, round, arm))
            if not own:
                raise UserError(
                    f"{KEY}={run} has no training of round {round} and arm {arm}: set "
                    "dataset.round and dataset.arm to what it has"
                )
            if num is not None and not 1 <= num <= len(own):
                raise UserError(
                    f"dataset.num={num}: {KEY}={run} has {len(own)} networks of round {round}"
                )
            tasks.append(replace(task, coordinates=None) if task.coordinates else task)
            members += own[:num]
        return cls(tuple(tasks), tuple(members))

    @property
    def mask(self) -> Mask | None:
        """The mask that all have; None where nothing is pruned."""
        mask = self.members[0].mask
        return None if mask.num_kept == mask.num_prunable else mask

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all weights, in their order."""
        told = [[one.fingerprint, one.condition] for one in self.members]
        return identity.digest([told, self.members[0].mask.fingerprint])


def _members(folder: Path, task: Task, condition: int, round: int, arm: str) -> Iterator[Member]:
    if why := unfinished(folder):
        raise UserError(f"{KEY}={folder} is not finished: {why}")
    for row in read_rounds(folder):
        if row.get("round") == round and row.get("arm") == arm and not row.get("diverged"):
            yield _member(folder, row, task, condition)


def _member(folder: Path, row: Mapping[str, Any], task: Task, condition: int) -> Member:
    own = task if task.coordinates is None else task.with_seed(row["seed"])
    mask, state = ended(folder, row, own)
    entry = Entry(trained_path(folder, dict(row)).parent, {})
    return Member(state, mask, condition, entry)


def _shape(state: Mapping[str, Tensor], name: str) -> str:
    return str(list(state[name].shape)) if name in state else "no such tensor"
