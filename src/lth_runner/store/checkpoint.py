"""What is kept of a training: under way, and finished."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Step


@dataclass(frozen=True)
class Checkpoint:
    """A training stopped between two steps: all that is needed to go on, bit for bit."""

    step: Step
    weights: State
    optimizer: State
    masking: State
    loss: float = 0.0  # summed since the last evaluation, with the number of steps it sums
    num_losses: int = 0
    history: tuple[dict[str, Any], ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a finished training hands over."""

    weights: State
    mask: Mask
    history: tuple[dict[str, Any], ...] = ()
    seconds: float = 0.0
    diverged: bool = False


class Keeper(Protocol):
    """Where one training's checkpoints and snapshots go."""

    def load(self) -> Checkpoint | None: ...
    def save(self, checkpoint: Checkpoint) -> None: ...
    def snapshot(self, checkpoint: Checkpoint) -> None: ...
