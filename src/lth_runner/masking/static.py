"""The masking that holds the ticket's mask: pruned weights are zero after every step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lth_runner.masking.live import LiveMask
from lth_runner.values import state as states
from lth_runner.values.mask import Mask
from lth_runner.values.shards import local, local_of
from lth_runner.values.state import State
from lth_runner.values.steps import Step

LARGE = 2**24  # masked weights: beyond them a mask of numbers is memory that a network needs


def is_sparse(kept: Mapping[str, Tensor]) -> bool:
    """Whether a ticket has lost weights already, so that its mask is found and is to be held."""
    return not all(bool(value.all()) for value in kept.values())


@dataclass(frozen=True)
class Static:
    """Holds the ticket's mask by theta <- m * theta after every optimizer step.

    Multiplying after the step, and not masking gradients, keeps pruned weights at zero whatever
    momentum, weight decay or Adam's moments hold, and leaves dense gradients to look at.
    """

    packs: ClassVar[bool] = True
    still: ClassVar[bool] = True
    captures: ClassVar[bool] = True
    shards: ClassVar[bool] = True

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        return _Static(model, kept)


class _Static:
    def __init__(self, model: nn.Module, kept: Mapping[str, Tensor]) -> None:
        self._model = model
        self._kept = kept
        parameters = dict(model.named_parameters())
        # a full layer needs no product: early rounds and excluded layers cost nothing
        masked = [name for name, value in kept.items() if not bool(value.all())]
        self._names, self._masked = masked, [parameters[name] for name in masked]
        self._weights = [local(parameter.data) for parameter in self._masked]
        self._is_large = sum(weight.numel() for weight in self._weights) > LARGE

    @cached_property
    def _factors(self) -> list[Tensor]:
        """The mask as numbers, made when first needed, since a pack applies masks by itself.

        In the weights' own memory layout, or the product would walk two layouts at once.
        """
        return [torch.empty_like(weight).copy_(kept) for weight, kept in self._pairs()]

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Goes through the weights beside what is kept of them, as far as they lie here."""
        for weight, parameter, name in zip(self._weights, self._masked, self._names, strict=True):
            yield weight, local_of(self._kept[name], parameter)

    def _removed(self) -> Iterable[Tensor]:
        """The mask's reverse: a byte a weight, where a factor takes four.

        On the CPU for as long as one layer's is looked at; on a device it stays there.
        """
        on_cpu = all(weight.device.type == "cpu" for weight in self._weights)
        return self._made_removed() if on_cpu else self._removed_on_device

    @cached_property
    def _removed_on_device(self) -> list[Tensor]:
        return list(self._made_removed())

    def _made_removed(self) -> Iterator[Tensor]:
        for weight, kept in self._pairs():
            yield torch.empty_like(weight, dtype=torch.bool).copy_(~kept)

    def trainable(self) -> Iterable[dict[str, Any]]:
        return [{"params": list(self._model.parameters())}]

    def penalty(self) -> Tensor | None:
        return None

    def after_backward(self, step: Step, total: Step, optimizer: Optimizer) -> bool:
        return True

    @torch.no_grad()
    def clip(self, max_norm: float) -> None:
        """Bounds the norm of m * gradient: what pruned weights would get never moves anything."""
        masks = self._removed() if self._is_large else self._factors
        for weight, mask in zip(self._masked, masks, strict=True):
            if weight.grad is not None and self._is_large:
                local(weight.grad).masked_fill_(mask, 0.0)
            elif weight.grad is not None:
                local(weight.grad).mul_(mask)
        nn.utils.clip_grad_norm_(self._model.parameters(), max_norm)

    @torch.no_grad()
    def after_step(self, step: Step, total: Step) -> None:
        if self._is_large:
            for weight, removed in zip(self._weights, self._removed(), strict=True):
                weight.masked_fill_(removed, 0.0)
        elif self._weights:
            torch._foreach_mul_(self._weights, self._factors)

    def mask(self) -> Mask:
        return Mask(self._kept)

    def weights(self) -> State:
        weights = states.read(self._model)
        for name in self._names:  # in place: the copy is ours, and may be large
            weights[name].masked_fill_(~self._kept[name], 0.0)
        return weights

    def remove(self) -> None:
        states.write(self._model, self.weights())

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None:
        pass
