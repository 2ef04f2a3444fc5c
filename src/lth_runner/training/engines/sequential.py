"""The engine that trains one network after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lth_runner.store.checkpoint import Checkpoint
from lth_runner.training.compiling import compiled
from lth_runner.training.engines.engine import Together
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.narrow import narrowed
from lth_runner.training.recipe import Recipe


@dataclass(frozen=True)
class Sequential:
    """Trains one network after the other."""

    name: str = "sequential"

    def pick(self, jobs: Sequence[Job]) -> Sequence[int]:
        return [0]

    def begin(
        self, jobs: Sequence[Job], recipe: Recipe, checkpoints: Sequence[Checkpoint | None]
    ) -> Together:
        [job], [checkpoint] = jobs, checkpoints
        loop = Loop(job, recipe, checkpoint)
        if recipe.cut_dead and (smaller := narrowed(job, recipe, loop.model)) is not None:
            loop.network = loop.stepped = smaller.train()
            loop.bring_up_to_date = smaller.push
        if recipe.compile:
            loop.stepped = compiled(loop.network)

        def advance() -> None:
            loop.backward()
            loop.update()

        return Together([loop], advance)
