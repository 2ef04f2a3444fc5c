"""An allocation that keeps or removes whole output channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lth_runner.allocate.budget import refuse_biases
from lth_runner.allocate.keep import count
from lth_runner.allocate.on_device import Choose, laid
from lth_runner.allocate.threshold import Global, LayerWise
from lth_runner.problem.requirements import check_kinds
from lth_runner.problem.task import Task
from lth_runner.score import Scores
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import select, spares_others

ACROSS = ("network", "layer")


@dataclass(frozen=True)
class Channels:
    """Keeps the best round(density * C) of C output channels, with all of their weights.

    The density of weights follows from that of channels.
    A channel's score is the mean over its weights in ``within``: of ``NormScale`` and
    ``FilterNorm`` their own, of magnitudes the 1-norm over the fan-in. C counts the channels of
    all layers but the last, whose channels are the classes, and those in ``exclude``: these stay
    as they are. across: ``network``, one threshold (Liu et al., ICCV 2017, arXiv 1708.06519; You
    et al., ICLR 2020, arXiv 1909.11957), or ``layer``, the same share of each (Li et al., ICLR
    2017, arXiv 1608.08710). At least one channel stays in every layer, but for ``allow_empty``.
    Equal scores are drawn by seed. The network keeps its shape: what the next layer reads from a
    removed channel is a constant (a bias, a norm's shift), and its weights there still count.
    Raises UserError where no layer is left to prune, and for a density that cannot be had.
    """

    across: Literal["network", "layer"] = "network"
    exclude: Sequence[str] = ()
    allow_empty: bool = False

    def __post_init__(self) -> None:
        if self.across not in ACROSS:
            raise UserError(
                f"pruner.budgets.channels.across={self.across!r}: "
                f"{nearest(str(self.across), ACROSS)}"
            )

    def check_layers(self, task: Task) -> None:
        """Raises UserError for layers whose weights do not have their outputs on the first axis."""
        spared = select(self.exclude, task.prunable, "pruner.exclude")
        *inner, _ = task.dense().of_weights()
        what = "pruner.scope=channels removes output channels, rows of a weight (out, in, ...)"
        check_kinds(task, [n for n in inner if n not in spared], ("linear", "convolution"), what)

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask:
        left = self._left(density, within)
        means = {name: _mean(scores[name], within[name]) for name in left}
        kept = self._across(means, density, left, seed)
        return Mask(_rows(within, kept))

    def on_device(self, density: float, within: Mask, seed: int, device: torch.device) -> Choose:
        inside, left = laid(within, device), self._left(density, within)
        best = self._across.on_device(density, left, seed, device)

        def choose(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return _rows(inside, best({name: _mean(scores[name], inside[name]) for name in left}))

        return choose

    @property
    def _across(self) -> Global | LayerWise:
        kind = Global if self.across == "network" else LayerWise
        return kind(avoid_collapse=not self.allow_empty)

    def _left(self, density: float, within: Mask) -> Mask:
        """Masks the channels that are left to choose among."""
        refuse_biases(within, "channels")
        spared = select(self.exclude, within, "pruner.exclude")
        left = Mask({n: kept for n, kept in channels(within).items() if n not in spared})
        self._check(density, left)
        return left

    def _check(self, density: float, left: Mask) -> None:
        if not left:
            raise UserError(
                "pruner.scope=channels: no layer is left to prune: the last one keeps its "
                f"channels, which are the classes{spares_others(self.exclude, 'pruner.exclude')}"
            )
        num = count(density, left.num_prunable)
        if num > left.num_kept:
            raise UserError(
                f"{num} of {left.num_prunable} channels are to be kept, but only {left.num_kept} "
                "have weights left: raise pruner.sparsity"
            )
        if not self.allow_empty and num < len(left):
            raise UserError(
                f"{num} of {left.num_prunable} channels are to be kept in {len(left)} layers: "
                "lower pruner.sparsity, or set pruner.budgets.channels.allow_empty=true"
            )


def channels(mask: Mask) -> Mask:
    """Masks the output channels that have a weight, in every layer but the last: (out, 1) each.

    As columns: with a single axis they would be biases.
    """
    inner = list(mask.of_weights().items())[:-1]
    return Mask({name: kept.flatten(1).any(1, keepdim=True) for name, kept in inner})


def _rows(within: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks the weights of the channels that are kept; layers that are not named stay."""
    return {
        name: inside & kept[name].view(-1, *[1] * (inside.ndim - 1)) if name in kept else inside
        for name, inside in within.items()
    }


def _mean(scores: Tensor, inside: Tensor) -> Tensor:
    """Averages each channel's scores in double precision, so that equal ones remain equal."""
    total = torch.where(inside, scores, 0).double().flatten(1).sum(1, keepdim=True)
    return (total / inside.flatten(1).sum(1, keepdim=True).clamp(min=1)).to(scores.dtype)
