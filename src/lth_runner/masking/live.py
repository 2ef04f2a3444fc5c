"""The seam between the training loop and what a method does to the mask within a training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from lth_runner.problem.task import Task
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step


def check(masking: Masking, clock: Clock) -> None:
    """Raises UserError, before any training, for what a masking's own ``check`` refuses.

    A masking has one where a training may be too short for it.
    """
    own: Any = getattr(masking, "check", None)
    if own is not None:
        own(clock)


def check_way_back(masking: Masking, parts: Iterable[object], task: Task, clock: Clock) -> None:
    """Raises UserError, before any training, where a part goes back to what is gone by then.

    A part that goes back has a ``check_way_back``; a masking that removes weights on the way has a
    ``mask_by``, a mask that has removed as many in each tensor as its own has after so many steps.
    """
    own: Any = getattr(masking, "mask_by", None)
    checks: list[Any] = [getattr(part, "check_way_back", None) for part in parts]
    for check in filter(None, checks) if own is not None else ():
        check(task, clock, lambda step: own(task.dense(), step, clock.total))


class LiveMask(Protocol):
    """A mask at work in one training, whose methods the loop calls in this order.

    The loop asks nothing else. ``step`` is that of the training, ``total`` its last.
    """

    def trainable(self) -> Iterable[dict[str, Any]]:
        """Gives the optimizer's groups of parameters."""

    def penalty(self) -> Tensor | None:
        """Gives what is added to the loss; None for nothing."""

    def after_backward(self, step: Step, total: Step, optimizer: Optimizer) -> bool:
        """Sees the dense gradients and says whether the optimizer is to step."""

    def clip(self, max_norm: float) -> None:
        """Bounds the 2-norm of the gradients that count."""

    def after_step(self, step: Step, total: Step) -> None:
        """Puts the weights right after the optimizer's step."""

    def mask(self) -> Mask:
        """Gives the hard mask as it stands."""

    def weights(self) -> State:
        """Gives the network's weights under their stock names, masked."""

    def remove(self) -> None:
        """Leaves a plain module with those weights."""

    def state_dict(self) -> State:
        """Gives state of its own as named tensors, so that a killed training continues exactly."""

    def load_state_dict(self, state: State) -> None:
        """Takes over what ``state_dict`` gave."""


class Masking(Protocol):
    """Says how a mask lives within a training; ``install`` binds it to one network.

    ``packs``: whether one network may share its tensors' memory with others in training, each
    bound by an ``install`` of its own: true of a mask that trains the network's own parameters,
    in place, adds no penalty, lets every step be taken and leaves the optimizer's state alone.
    ``still``: whether the ticket's mask stays as it is and training differs from a dense one only
    by pruned weights staying zero, so that they may be left out of the computation altogether.
    ``captures``: whether every step does the same to the same tensors, whatever its number, and
    asks the host nothing, so that one step, recorded, stands for all of them.
    The network's weights are masked already, by the ticket's mask or, in a continued training, by
    what the mask had become: installing changes none of them.
    ``shards``: whether a network may be trained of which each of several processes holds a part.
    ``kept`` maps parameter names to boolean tensors of the parameters' shapes.
    """

    packs: ClassVar[bool]
    still: ClassVar[bool]
    captures: ClassVar[bool]
    shards: ClassVar[bool]

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        """Binds the mask ``kept`` to a network that is to be trained."""
