"""Tickets, the subnetworks that are trained, and what a finished training leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lth_runner.problem.task import Task
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step


@dataclass(frozen=True)
class Start:
    """Says where a training stands on its clocks when it begins.

    ``step`` counts done optimizer steps: batches, augmentation and learning rate continue from
    there. ``final_rate`` holds the learning rate at the schedule's last value instead
    (fine-tuning). ``order`` names the data order: the same number, the same batches.
    ``optimizer`` is restored optimizer state, empty for a fresh one.
    """

    step: Step = 0
    order: int = 0
    final_rate: bool = False
    optimizer: State = field(default_factory=dict)


@dataclass(frozen=True)
class Ticket:
    """A subnetwork to train: a mask, the weights before it is applied, and the training's start.

    The weights are kept whole so that a control may lay another mask over them; the training
    starts from ``masked``, m * theta.
    """

    mask: Mask
    weights: State
    start: Start = Start()

    @property
    def masked(self) -> State:
        """The weights m * theta, pruned ones exactly zero."""
        return self.mask(self.weights)


class Trained(Protocol):
    """What one training left behind; tensors are read from the Store when asked for."""

    @property
    def key(self) -> str:
        """The name of the training in the Store."""

    @property
    def ticket(self) -> Ticket:
        """The ticket that was trained."""

    @property
    def clock(self) -> Clock:
        """How long the training was."""

    @property
    def mask(self) -> Mask:
        """The mask at the end; another than the ticket's where a masking moves it."""

    @property
    def weights(self) -> State:
        """The weights at the end, masked."""

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """One row per evaluation."""

    @property
    def diverged(self) -> bool:
        """Whether the loss or a weight was NaN or infinite in the end."""

    @property
    def reused(self) -> bool:
        """Whether an earlier run had done the training."""

    @property
    def seconds(self) -> float:
        """How long the training took, its share of the time where several went in step."""

    def at(self, step: Step) -> State:
        """Reads the weights at a step; replays the training where they were not kept."""

    def optimizer_at(self, step: Step) -> State:
        """Reads the optimizer's state at a step, as ``at`` does the weights."""

    def masking_at(self, step: Step) -> State:
        """Reads what the live mask carried at a step, as ``at`` does the weights."""

    def gradients(self, num_steps: int) -> Iterator[State]:
        """Replays the first steps and yields the gradients of each."""

    def derived(self, name: str, compute: Callable[[], State]) -> State:
        """Reads tensors kept beside the training under a name, computed where there are none."""

    def sibling(self, ticket: Ticket, arm: str, task: Task | None = None) -> Trained:
        """Trains another ticket alike, on another task where one is given."""


Past = Sequence[Trained]  # a replicate's finished rounds, the dense network first
