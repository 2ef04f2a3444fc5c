"""The seam for engines: how trainings are done, one by one or several in step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lth_runner.store.checkpoint import Checkpoint
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.recipe import Recipe


@dataclass(frozen=True)
class Together:
    """Trainings that go in step: ``advance`` takes every one of ``lanes`` one step further."""

    lanes: Sequence[Loop]
    advance: Callable[[], None]


class Engine(Protocol):
    """Does trainings one by one or several in step."""

    @property
    def name(self) -> str:
        """What tells its results from another engine's, which round otherwise."""

    def pick(self, jobs: Sequence[Job]) -> Sequence[int]:
        """Picks the jobs, by their numbers, that are to be trained together first."""

    def begin(
        self, jobs: Sequence[Job], recipe: Recipe, checkpoints: Sequence[Checkpoint | None]
    ) -> Together:
        """Begins trainings together, each from its checkpoint where there is one.

        Raises what torch raises where they do not fit into memory.
        """
