"""Tickets, the subnetworks that are trained, and what a finished training leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor

from lth_runner.problem.task import Task
from lth_runner.values import state as states
from lth_runner.values.mask import Mask
from lth_runner.values.memory import LARGE
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step


class Copied:
    """A field of tensors that is read as a copy: what a reader writes to it, nobody else sees.

    The field takes over the tensors it is given, or a function that makes them whenever they are
    asked for. Each reading copies or makes all of them: read once, then look up. ``default``: what
    the field holds where nothing is given; None, it must be given.
    """

    def __init__(self, default: tuple[()] | None = None) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object | None, owner: type) -> State:
        if instance is not None:
            held = vars(instance)[f"_{self._name}"]
            return dict(held()) if callable(held) else states.copied(held)
        if self._default is None:  # so a dataclass asks for a field's default
            raise AttributeError(self._name)
        return self._default  # type: ignore[return-value]  # a dataclass takes no dictionary here

    def __set__(self, instance: object, state: Mapping[str, Tensor] | Callable[[], State]) -> None:
        vars(instance)[f"_{self._name}"] = state if callable(state) else dict(state)


@dataclass(frozen=True)
class Start:
    """Says where a training stands on its clocks when it begins.

    ``step`` counts done optimizer steps: batches, augmentation and learning rate continue from
    there. ``final_rate`` holds the learning rate at the schedule's last value instead
    (fine-tuning); either is multiplied by ``rate_factor``. ``order`` names the data order: the same
    number, the same batches. ``optimizer`` is restored optimizer state, empty for a fresh one.
    """

    step: Step = 0
    order: int = 0
    final_rate: bool = False
    rate_factor: float = 1.0
    optimizer: Copied = Copied(default=())

    @property
    def has_optimizer(self) -> bool:
        """Whether there is optimizer state to restore."""
        return bool(self._held)

    @cached_property
    def fingerprint(self) -> str:
        """The hash of the optimizer state, made once."""
        return states.fingerprint(self._held)

    @property
    def _held(self) -> State:
        held: State = vars(self)["_optimizer"]
        return held

    def at_the_end(self, clock: Clock) -> Start:
        """Returns the start of a training that makes no step: its ticket is measured as it is."""
        return Start(step=clock.total, order=self.order)

    def is_end(self, clock: Clock) -> bool:
        """Returns whether no step follows: a ticket that is evaluated as it is, never trained."""
        return self.step >= clock.total


@dataclass(frozen=True)
class Ticket:
    """A subnetwork to train: a mask, the weights before it is applied, and the training's start.

    The weights are kept whole so that a control may lay another mask over them; the training
    starts from ``masked``, m * theta. ``room``: the largest mask that may lie there, where a
    search keeps to one; None for all that a mask covers.
    """

    mask: Mask
    weights: Copied = Copied()
    start: Start = Start()
    room: Mask | None = None

    @property
    def masked(self) -> State:
        """The weights m * theta, pruned ones exactly zero; a copy, too."""
        found = self.mask(self._held)
        return {n: value if n in self.mask else value.clone() for n, value in found.items()}

    @cached_property
    def fingerprint(self) -> str:
        """The hash of the masked weights, made once."""
        return states.fingerprint(self.masked)

    def under(self, mask: Mask) -> Ticket:
        """Returns the same weights and start under another mask, without a copy of the weights."""
        return Ticket(mask, self._given, self.start, self.room)

    def starting(self, start: Start) -> Ticket:
        """Returns the same subnetwork with another start, without a copy of the weights."""
        return Ticket(self.mask, self._given, start, self.room)

    @property
    def _held(self) -> State:
        given: Any = self._given
        held: State = given() if callable(given) else given
        return held

    @property
    def _given(self) -> Any:
        """What the weights were given as: themselves, or what makes them."""
        return vars(self)["_weights"]


def dense_ticket(task: Task) -> Ticket:
    """Makes the ticket that keeps every weight, at the task's own start.

    The weights of a large network are made whenever they are asked for, which is seldom, and not
    held for as long as the run lasts.
    """
    is_large = task.num_parameters >= LARGE
    return Ticket(task.dense(), task.init if is_large else task.init())


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


def as_used(trained: Trained) -> Ticket:
    """Gives what a training started from or, where it made no step, the network that is used.

    A masking may compute other values than the ticket's weights, scaled or binary ones: a ticket
    that is used untrained is what its training left.
    """
    ticket = trained.ticket
    if not ticket.start.is_end(trained.clock):
        return ticket
    return Ticket(trained.mask, trained.weights, ticket.start)


Past = Sequence[Trained]  # a replicate's finished rounds, the dense network first
