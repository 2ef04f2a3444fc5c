"""The factor on a loss whose gradients are computed in half precision."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lth_runner.values.state import State

FIRST = 2.0**16
PATIENCE = 2000  # steps without an overflow, after which the factor is doubled


class LossScale:
    """Scales a loss so that in half precision no gradient is 0 that is small, or infinite.

    A step whose gradients overflow is left out, and the factor halved; after ``PATIENCE`` steps
    that do not it is doubled, as torch's GradScaler does it. The gradients of all parameters are
    brought back to size before anybody looks, those that only a mask sees too.
    Micikevicius et al., ICLR 2018, arXiv:1710.03740.
    """

    def __init__(self) -> None:
        self._factor, self._streak = FIRST, 0

    def __call__(self, loss: Tensor) -> Tensor:
        return loss * self._factor

    def unscale(self, parameters: Iterable[nn.Parameter]) -> bool:
        """Divides the gradients by the factor; says whether all of them are finite."""
        gradients = [value.grad for value in parameters if value.grad is not None]
        if not gradients:
            return True
        torch._foreach_mul_(gradients, 1 / self._factor)
        finite = bool(torch.isfinite(torch.stack(torch._foreach_norm(gradients))).all())
        self._streak = self._streak + 1 if finite else 0
        if not finite:
            self._factor /= 2
        elif self._streak == PATIENCE:
            self._factor, self._streak = 2 * self._factor, 0
        return finite

    def state_dict(self) -> State:
        """Returns what a checkpoint keeps."""
        return {
            "factor": torch.tensor(self._factor, dtype=torch.float64),
            "streak": torch.tensor(self._streak),
        }

    def load_state_dict(self, state: State) -> None:
        """Goes on where a checkpoint was made."""
        self._factor, self._streak = float(state["factor"]), int(state["streak"])
