"""Rare gems: a masking that learns a mask over the initial weights, to be trained later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lth_runner.allocate import Allocate
from lth_runner.allocate.on_device import Choose, laid
from lth_runner.masking.frozen import Draw, Frozen, ScoreRule, Scores
from lth_runner.masking.live import LiveMask
from lth_runner.masking.static import Static, is_sparse
from lth_runner.schedule import Schedule
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive
from lth_runner.values.steps import Step


@dataclass(frozen=True)
class GemMiner:
    """Trains scores p in [0, 1], rounded in the forward pass, and rules the lowest out on the way.

    w_eff = a * [p > 1/2] * w, and dL/dp = dL/dw_eff * a * w: straight through the rounding. p
    starts as U(0, 1) and is clamped after every step; ``penalty`` times the sum of p^2 is added to
    the loss. a is 1 for what is active: with n densities in the schedule, the lowest active p go
    down to the i-th after the share i / (n + 1) of the training, for good. The mask that is left
    is all that is active, exactly as many as asked for, those rounded to 0 too; with ``rounded``
    only [p > 1/2] of them. A ticket that is sparse already trains its weights, the mask held:
    the second round of ``search.Found``.
    Sreenivasan et al., NeurIPS 2022, arXiv 2202.12002, with 29 densities in 150 epochs and
    initial weights of constant size. Raises UserError for a negative ``penalty``, and on installing
    for a density that cannot be had.
    """

    packs: ClassVar[bool] = False
    still: ClassVar[bool] = False
    captures: ClassVar[bool] = False
    shards: ClassVar[bool] = False

    allocate: Allocate
    schedule: Schedule
    penalty: float = 1e-4
    rounded: bool = False

    def __post_init__(self) -> None:
        if not self.penalty >= 0:
            raise UserError(f"pruner.penalty={self.penalty} must be 0 or above")

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        if is_sparse(kept):
            return Static().install(model, kept, seed)
        densities = self.schedule()

        def rounded(active: Mask, device: torch.device) -> Draw:
            left = laid(active, device)
            return lambda scores, step: {name: left[name] & (p > 0.5) for name, p in scores.items()}

        def hard(active: Mask, device: torch.device) -> Choose:
            left, draw = laid(active, device), rounded(active, device)
            return lambda scores: draw(scores, 0) if self.rounded else left

        def after_step(
            scores: Scores, active: Mask, step: Step, total: Step, finite: Tensor
        ) -> Mask:
            low, high = torch.where(finite, 0.0, -torch.inf), torch.where(finite, 1.0, torch.inf)
            for score in scores.values():
                score.clamp_(low.to(score.dtype), high.to(score.dtype))
            due = _due(step + 1, total, len(densities))
            if due > _due(step, total, len(densities)) and bool(finite):
                lowest = {name: score.detach().cpu() for name, score in scores.items()}
                number = derive(seed, "gem-miner", due)
                active = self.allocate(lowest, densities[due - 1], active, number)
            return active

        zeros = {name: torch.zeros(value.shape) for name, value in kept.items()}
        self.allocate(zeros, densities[-1], Mask(kept), 0)  # refuses what cannot be had
        return Frozen(
            model,
            kept,
            seed,
            ScoreRule(
                start=lambda weight, rng: torch.rand(weight.shape, generator=rng),
                choose=hard,
                slope=lambda weight, score, held: weight,
                draw=rounded,
                penalty=self._penalty if self.penalty else None,
                after_step=after_step,
            ),
        )

    def _penalty(self, scores: Scores) -> Tensor:
        squares = torch.stack([score.square().sum() for score in scores.values()])
        return self.penalty * squares.sum()


def _due(step: Step, total: Step, num: int) -> int:
    """Counts how many of ``num`` densities are due once so many steps are done."""
    return sum(max(1, round(i / (num + 1) * total)) <= step for i in range(1, num + 1))
