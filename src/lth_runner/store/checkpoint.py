"""What is kept of a training under way, and of a finished one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Step


@dataclass(frozen=True)
class Checkpoint:
    """A training between two steps, with all that is needed to go on bit for bit."""

    step: Step
    weights: State
    optimizer: State
    masking: State
    scale: State = field(default_factory=dict)  # of the loss, in half precision
    loss: float = 0.0  # summed since the last evaluation, with the number of steps it sums
    num_losses: int = 0
    history: tuple[dict[str, Any], ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """The result of a finished training."""

    weights: State
    mask: Mask
    history: tuple[dict[str, Any], ...] = ()
    seconds: float = 0.0
    diverged: bool = False


class Keeper(Protocol):
    """Takes the checkpoints and snapshots of one training.

    The training goes on when they are taken, and writes into their tensors: what is held, and not
    written away, is to be copied.
    """

    def load(self) -> Checkpoint | None:
        """Reads the last checkpoint; None where there is none."""

    def save(self, checkpoint: Checkpoint) -> None:
        """Keeps a checkpoint in place of the last one."""

    def snapshot(self, checkpoint: Checkpoint) -> None:
        """Keeps a checkpoint for good, under its step."""
