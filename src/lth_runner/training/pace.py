"""When a training looks up from its steps, and whom it tells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lth_runner.training.history import Row
from lth_runner.training.job import Job
from lth_runner.values.steps import Clock, Step

Watch = Callable[[Job, Step, Clock, Row | None], None]


@dataclass(frozen=True)
class Pace:
    """Says whether a training is to stop, how often to checkpoint and whom to tell."""

    stop: Callable[[], bool] = lambda: False
    checkpoint_seconds: float = 120.0
    watch: Watch = lambda job, step, clock, row: None
    replayed: Callable[[Step], None] = lambda steps: None  # run again for a snapshot or a probe


class Interrupted(Exception):
    """Says that the run was asked to stop; every training stands checkpointed."""
