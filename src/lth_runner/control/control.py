"""The seam for controls, and which of them a run can have."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from lth_runner.problem.task import Task
from lth_runner.search.rewind import Rate
from lth_runner.search.search import Foreseeing, Search
from lth_runner.search.ticket import Past, Ticket
from lth_runner.values.steps import Clock

log = logging.getLogger(__name__)


class Control(Protocol):
    """Makes another ticket to train beside the ticket; ``seed`` draws what is random.

    It gives None where there is none after all, as where a decision made otherwise comes to
    nothing: the control has said why.
    """

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket | None: ...


def check(control: Control, task: Task, clock: Clock, rate: Rate) -> None:
    """Raises UserError, before any training, for what a control's own ``check`` refuses."""
    own: Any = getattr(control, "check", None)
    if own is not None:
        own(task, clock, rate)


def check_beside(controls: Iterable[Control], search: Search, task: Task, clock: Clock) -> None:
    """Raises UserError where a control cannot stand beside a ticket that the search foresees.

    A control that may refuse one has a ``check_ticket`` of a task, a ticket and the past.
    """
    checks: list[Any] = [getattr(control, "check_ticket", None) for control in controls]
    if any(checks) and isinstance(search, Foreseeing):
        for ticket, past in search.foreseen(task, clock):
            for own in filter(None, checks):
                own(task, ticket, past)


def possible(controls: Mapping[str, Control]) -> dict[str, Control]:
    """Leaves out the controls that cannot be had, with a line of log that says why.

    A control that there may not be has an ``obstacle``: a reason, or None.
    """
    obstacles = {name: getattr(control, "obstacle", None) for name, control in controls.items()}
    for name, obstacle in obstacles.items():
        if obstacle is not None:
            log.info("control  %s is left out: %s", name, obstacle)
    return {name: control for name, control in controls.items() if obstacles[name] is None}
