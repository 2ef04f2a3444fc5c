"""Maskings that find subnetworks of a random network, by trained scores of its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from lth_runner.allocate import Allocate
from lth_runner.allocate.on_device import Choose, prepared
from lth_runner.masking.frozen import Frozen, ScoreRule, unchanged
from lth_runner.masking.live import LiveMask
from lth_runner.schedule import Schedule
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive


@dataclass(frozen=True)
class EdgePopup:
    """Keeps the weights of the largest trained scores |s| and never trains a weight.

    They are as many as the schedule's last density says.
    w_eff = m * w, and dL/ds = dL/dw_eff * w * sign(s): straight through the choice by |s|.
    Scores start as U(-1, 1) / sqrt(fan_in). ``scale_fan``: kept weights are divided by the root
    of their layer's density, as if drawn for so many inputs (the authors' code takes the share
    removed, which differs unless half is kept). Weight decay acts on the scores.
    Ramanujan et al., CVPR 2020, arXiv 1911.13299, with a budget by layer and networks without
    biases; here biases and the norms' scales and shifts are frozen as they were drawn.
    Raises UserError, on installing, for a density that cannot be had.
    """

    packs: ClassVar[bool] = False
    still: ClassVar[bool] = False
    captures: ClassVar[bool] = False
    shards: ClassVar[bool] = False

    allocate: Allocate
    schedule: Schedule
    scale_fan: bool = False

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        values = _scaled if self.scale_fan else unchanged
        return Frozen(
            model,
            kept,
            seed,
            ScoreRule(
                start=uniform,
                choose=partial(largest, self.allocate, self.schedule, seed),
                slope=lambda weight, score, held: values(weight, held) * score.sign(),
                values=values,
            ),
        )


@dataclass(frozen=True)
class MultiPrize:
    """Finds binary weights: alpha * sign(w) where |s| is among the largest, alpha by layer.

    alpha = ||m * w||_1 / (number kept): the mean |w| of what is kept, no gradient through it.
    dL/ds = dL/dw_eff * w * sign(s): with respect to the gained mask alpha * m, as the authors'
    code has it, this is their g * |w|. Scores start as in ``EdgePopup``.
    Diffenderfer & Kailkhura, ICLR 2021, arXiv 2103.09377, MPT-1/32 by biprop; without the
    gradual fall of the density in their global variant. Binary activations are the model's:
    ``model.activation=sign``. Raises UserError, on installing, for a density that cannot be had.
    """

    packs: ClassVar[bool] = False
    still: ClassVar[bool] = False
    captures: ClassVar[bool] = False
    shards: ClassVar[bool] = False

    allocate: Allocate
    schedule: Schedule

    def install(self, model: nn.Module, kept: Mapping[str, Tensor], seed: int) -> LiveMask:
        return Frozen(
            model,
            kept,
            seed,
            ScoreRule(
                start=uniform,
                choose=partial(largest, self.allocate, self.schedule, seed),
                slope=lambda weight, score, held: weight * score.sign(),
                values=_binary,
            ),
        )


def uniform(weight: Tensor, rng: torch.Generator) -> Tensor:
    """Draws U(-1, 1) / sqrt(fan_in), Kaiming-uniform with a = sqrt(5)."""
    fan_in = weight[0].numel()
    return (2 * torch.rand(weight.shape, generator=rng) - 1) / math.sqrt(fan_in)


def largest(
    allocate: Allocate, schedule: Schedule, seed: int, within: Mask, device: torch.device
) -> Choose:
    """Prepares the choice of the largest |s| at the schedule's last density."""
    choose = prepared(allocate, schedule()[-1], within, derive(seed, "scores"), device)
    return lambda scores: choose({name: s.detach().abs() for name, s in scores.items()})


def _scaled(weight: Tensor, kept: Tensor) -> Tensor:
    return weight * (kept.numel() / kept.sum().clamp(min=1)).sqrt()


def _binary(weight: Tensor, kept: Tensor) -> Tensor:
    size = torch.where(kept, weight.abs(), 0.0).sum() / kept.sum().clamp(min=1)
    return size * weight.sign()
