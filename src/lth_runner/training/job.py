"""One training to be done, and all that decides its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from lth_runner.masking import Masking
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training.recipe import Recipe
from lth_runner.values import identity
from lth_runner.values.steps import Step

# Counts what changes the arithmetic of every training without changing any recipe: a Store keeps
# trainings of another generation apart.
GENERATION = 3


@dataclass(frozen=True)
class Slot:
    """The place of a job in a run."""

    round: int
    arm: str = "ticket"


@dataclass(frozen=True, eq=False)
class Job:
    """One training to be done: a ticket of a task, how its mask lives, and where it belongs.

    ``snapshots`` are the steps at which later rounds will want the weights.
    """

    task: Task
    ticket: Ticket
    masking: Masking
    slot: Slot = Slot(0)
    snapshots: tuple[Step, ...] = ()

    def identity(self, recipe: Recipe, engine: str) -> dict[str, Any]:
        """Describes all that decides a training's result: jobs alike in it are one training."""
        start = self.ticket.start
        optimizer = {"optimizer": start.fingerprint} if start.has_optimizer else {}
        scaled = {"factor": start.rate_factor} if start.rate_factor != 1.0 else {}
        return {
            "generation": GENERATION,
            "task": self.task.identity,
            "recipe": identity.describe(recipe),
            "masking": identity.describe(self.masking),
            "seed": self.task.seed,
            "start": {"step": start.step, "order": start.order, "final": start.final_rate} | scaled,
            "mask": self.ticket.mask.fingerprint,
            "weights": self.ticket.fingerprint,
            "device": torch.device(self.task.device).type,
            "engine": engine,
        } | optimizer
