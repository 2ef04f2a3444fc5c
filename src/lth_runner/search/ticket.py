"""A subnetwork with the place where its training starts, and what one training left behind."""

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
    """Where a training stands on its clocks when it begins.

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
    """A mask, the weights before it is applied, and the start of the training.

    The weights are kept whole so that a control may lay another mask over them; the training
    starts from ``masked``, m * theta.
    """

    mask: Mask
    weights: State
    start: Start = Start()

    @property
    def masked(self) -> State:
        """m * theta: pruned weights exactly zero."""
        return self.mask(self.weights)


class Trained(Protocol):
    """What one training left behind; tensors are read from the Store when asked for."""

    @property
    def key(self) -> str: ...
    @property
    def ticket(self) -> Ticket: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def mask(self) -> Mask: ...  # may differ from ticket.mask where a masking moves it
    @property
    def weights(self) -> State: ...  # at the end
    @property
    def history(self) -> Sequence[Mapping[str, Any]]: ...  # one row per evaluation
    @property
    def diverged(self) -> bool: ...
    @property
    def reused(self) -> bool: ...  # true when an earlier run had done it
    @property
    def seconds(self) -> float: ...
    def at(self, step: Step) -> State: ...  # a snapshot, replayed where it was not kept
    def optimizer_at(self, step: Step) -> State: ...
    def masking_at(self, step: Step) -> State: ...  # what its live mask carries
    def gradients(self, num_steps: int) -> Iterator[State]: ...  # replays the first steps
    def derived(self, name: str, compute: Callable[[], State]) -> State: ...  # computed once
    # another ticket trained alike, on another task where one is given
    def sibling(self, ticket: Ticket, arm: str, task: Task | None = None) -> Trained: ...


Past = Sequence[Trained]  # a replicate's finished rounds, the dense network first
