"""The masking that penalises the norm layers' scales while the network is dense."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lth_runner.masking.live import LiveMask
from lth_runner.masking.static import Static
from lth_runner.problem.norm_layers import CHANNEL_NORMS
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Step


@dataclass(frozen=True)
class ScalePenalty:
    """Adds ``strength`` * sum |gamma| over batch and group norms to the loss of a dense network.

    The gradient of each scale gains strength * sign(gamma), none at 0. A training under a mask
    that removes weights, a ticket's or a control's, has no penalty: it is ``Static``'s. Raises
    UserError for a negative strength, and on installing where there is no such scale.
    Liu et al., ICCV 2017, arXiv 1708.06519; You et al., ICLR 2020, arXiv 1909.11957: 1e-4.
    """

    packs: ClassVar[bool] = False
    still: ClassVar[bool] = False
    captures: ClassVar[bool] = True
    shards: ClassVar[bool] = False

    strength: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise UserError(f"pruner.penalty={self.strength} must be a number of at least 0")

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        still = Static().install(model, kept, seed)
        if not self.strength or not all(bool(value.all()) for value in kept.values()):
            return still
        scales = [m.weight for m in model.modules() if isinstance(m, CHANNEL_NORMS)]
        found = [scale for scale in scales if scale is not None]
        if not found:
            raise UserError(
                f"pruner.penalty={self.strength}: the network has no batch or group norm with a "
                "scale: use a network with norm layers (model.norm=batch), or set pruner.penalty=0"
            )
        return _Penalised(still, found, self.strength)


class _Penalised:
    def __init__(self, still: LiveMask, scales: Sequence[Tensor], strength: float) -> None:
        self._still, self._scales, self._strength = still, scales, strength

    def trainable(self) -> Iterable[dict[str, Any]]:
        return self._still.trainable()

    def penalty(self) -> Tensor | None:
        return self._strength * torch.stack([scale.abs().sum() for scale in self._scales]).sum()

    def after_backward(self, step: Step, total: Step, optimizer: Optimizer) -> bool:
        return self._still.after_backward(step, total, optimizer)

    def clip(self, max_norm: float) -> None:
        self._still.clip(max_norm)

    def after_step(self, step: Step, total: Step) -> None:
        self._still.after_step(step, total)

    def mask(self) -> Mask:
        return self._still.mask()

    def weights(self) -> State:
        return self._still.weights()

    def remove(self) -> None:
        self._still.remove()

    def state_dict(self) -> State:
        return self._still.state_dict()

    def load_state_dict(self, state: State) -> None:
        self._still.load_state_dict(state)
