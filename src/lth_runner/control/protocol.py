"""What every control answers."""

from __future__ import annotations

from typing import Any, Protocol

from lth_runner.step import Clock
from lth_runner.task import Task
from lth_runner.ticket import Past, Ticket


class Control(Protocol):
    """Another ticket at the same density and schedule; ``seed`` draws what is random."""

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket: ...


def check(control: Control, task: Task, clock: Clock) -> None:
    """Raises UserError, before any training, for what a control's own ``check`` refuses."""
    own: Any = getattr(control, "check", None)
    if own is not None:
        own(task, clock)
