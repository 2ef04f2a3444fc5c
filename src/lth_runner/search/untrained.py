"""Trainings that nobody has done, for whoever must look at one before the first is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket, Trained
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step


def any_half(dense: Mask) -> Mask:
    """Keeps about half of each tensor, drawn: a pattern is one that a control might keep to."""
    kept = {}
    for name, whole in dense.items():
        kept[name] = torch.randint(
            2, whole.shape, dtype=torch.bool, generator=stream(0, "half", name)
        )
        kept[name].view(-1)[:2] = torch.tensor([True, False])[: whole.numel()]
    return Mask(kept)


@dataclass(frozen=True)
class Untrained:
    """A training that changed no weight, asked what any training is asked (a ``Trained``).

    ``ended``: the mask that it is to have ended with; None: its ticket's.
    """

    task: Task
    ticket: Ticket
    clock: Clock
    ended: Mask | None = None
    key: str = "untrained"
    diverged: bool = False
    reused: bool = False
    seconds: float = 0.0

    @property
    def mask(self) -> Mask:
        return self.ended or self.ticket.mask

    @property
    def weights(self) -> State:
        return self.mask(self.ticket.masked)

    @cached_property
    def history(self) -> Sequence[Mapping[str, Any]]:
        found: dict[str, Any] = {"train_loss": 0.0, "learning_rate": 0.0}
        for split in ("val", "test"):
            figures = self.task.evaluate(self.weights, split)
            found |= {f"{split}_{name}": value for name, value in figures.items()}
        return [{"step": step, **found} for step in (0, self.clock.total)]

    def at(self, step: Step) -> State:
        return self.weights if step >= self.clock.total else self.ticket.masked

    def optimizer_at(self, step: Step) -> State:
        return {}

    def masking_at(self, step: Step) -> State:
        return {}

    def gradients(self, num_steps: int) -> Iterator[State]:
        if num_steps:
            yield self.task.grad(self.weights, 1)

    def derived(self, name: str, compute: Callable[[], State]) -> State:
        return compute()

    def sibling(self, ticket: Ticket, arm: str, task: Task | None = None) -> Trained:
        return Untrained(task or self.task, ticket, self.clock)
