"""The masking whose optimizer sees the kept weights alone, and keeps nothing for the others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lth_runner.masking.live import LiveMask
from lth_runner.values import state as states
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Step


@dataclass(frozen=True)
class Compact:
    """Holds the ticket's mask as ``Static`` does, with moments of the kept weights alone.

    The optimizer is given the kept weights of each thinned tensor as one row, their gradients
    gathered into it and the row written back after each step, so that its state takes as many
    numbers as are kept: at 99 % sparsity a hundredth. What is computed for a weight is the same,
    for an optimizer that treats each by itself; weight decay acts on kept weights alone. Gradients
    are dense for as long as a step takes.
    """

    packs: ClassVar[bool] = False
    still: ClassVar[bool] = False
    captures: ClassVar[bool] = False
    shards: ClassVar[bool] = False

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        return _Compact(model, kept)


class _Compact:
    def __init__(self, model: nn.Module, kept: Mapping[str, Tensor]) -> None:
        self._model, self._kept = model, kept
        parameters = dict(model.named_parameters())
        thinned = [name for name, bits in kept.items() if not bool(bits.all())]
        self._names, self._weights = thinned, [parameters[name] for name in thinned]
        self._places = [
            tuple(axis.to(parameters[name].device) for axis in kept[name].nonzero(as_tuple=True))
            for name in thinned
        ]
        # of two axes but for vectors, biases and norms, which a recipe may spare weight decay
        self._rows = [
            nn.Parameter(weight.detach()[places].view([1] * (weight.ndim > 1) + [-1]))
            for weight, places in zip(self._weights, self._places, strict=True)
        ]

    def trainable(self) -> Iterable[dict[str, Any]]:
        own = {id(weight) for weight in self._weights}
        others = [p for p in self._model.parameters() if id(p) not in own]
        return [{"params": [*others, *self._rows]}]

    def penalty(self) -> Tensor | None:
        return None

    @torch.no_grad()
    def after_backward(self, step: Step, total: Step, optimizer: Optimizer) -> bool:
        for row, weight, places in zip(self._rows, self._weights, self._places, strict=True):
            if weight.grad is not None:
                row.grad = weight.grad[places].view_as(row)
                weight.grad = None
        return True

    def clip(self, max_norm: float) -> None:
        """Bounds the norm of the gradients that the optimizer sees."""
        groups = self.trainable()
        nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], max_norm)

    @torch.no_grad()
    def after_step(self, step: Step, total: Step) -> None:
        for row, weight, places in zip(self._rows, self._weights, self._places, strict=True):
            weight[places] = row.flatten()

    def mask(self) -> Mask:
        return Mask(self._kept)

    def weights(self) -> State:
        weights = states.read(self._model)
        for name in self._names:
            weights[name].masked_fill_(~self._kept[name].cpu(), 0.0)
        return weights

    def remove(self) -> None:
        states.write(self._model, self.weights())

    def state_dict(self) -> State:
        return {}

    def load_state_dict(self, state: State) -> None:
        pass
