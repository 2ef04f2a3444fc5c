"""Scores of whole output channels, which every weight of a channel shares."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lth_runner.problem.answers import answer
from lth_runner.problem.norm_layers import CHANNEL_NORMS
from lth_runner.problem.task import Task
from lth_runner.score.checks import KEY, check_channels, check_whole_number
from lth_runner.score.score import Scores
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State


@dataclass(frozen=True)
class NormScale:
    """Scores each channel by |gamma| of the norm layer that reads its output.

    All weights of a channel have that score.
    Layers whose output no norm reads directly have no channel to lose: their weights score above
    all others. At the start all gamma are equal, and the allocation draws among ties. The norms
    are found by a forward pass: batch norm and group norm. Raises UserError where there is none.
    Liu et al. (network slimming), ICCV 2017, arXiv 1708.06519; You et al. (early-bird tickets),
    ICLR 2020, arXiv 1909.11957.
    """

    def check(self, task: Task) -> None:
        """Raises UserError for a network without a norm after a prunable layer, and for biases."""
        norm_after(task)

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        return scales(weights, mask, norm_after(task))


@dataclass(frozen=True)
class FilterNorm:
    """Scores each filter (output unit) by the norm of its kept weights.

    It is (sum |m * theta|^order)^(1/order), and all weights of the filter have it.
    Li et al., ICLR 2017, arXiv 1608.08710, with order 1, filters ranked within each layer.
    """

    order: int = 1

    def __post_init__(self) -> None:
        check_whole_number(1, order=self.order)

    def check(self, task: Task) -> None:
        """Raises UserError for biases and for layers whose outputs are on another axis."""
        check_channels(task, "FilterNorm")

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        self.check(task)
        masked = mask(weights)
        return {
            name: _spread(_fine(masked[name]).flatten(1).norm(self.order, dim=1), kept)
            for name, kept in mask.items()
        }


def scales(weights: State, mask: Mask, norms: Mapping[str, str]) -> Scores:
    """Gives the weights of each channel |gamma| of the norm that follows their layer.

    ``norms`` is what ``norm_after`` finds; layers without a norm score above all others.
    """
    scale = {name: _fine(weights[norm]).abs() for name, norm in norms.items()}
    above = max(float(value.max()) for value in scale.values()) + 1
    return {
        name: _spread(scale[name], kept) if name in scale else torch.full(kept.shape, above)
        for name, kept in mask.items()
    }


def norm_after(task: Task) -> dict[str, str]:
    """Finds for each prunable weight the scale of the norm that reads its layer's output unchanged.

    Raises UserError for a network without such a norm, and where biases are to be pruned.
    """
    check_channels(task, "NormScale")
    module = task.module().eval()
    found, _ = watch_norms(module, task.prunable)
    with torch.no_grad():
        answer(module, task.data.sample(1, 0)[0])
    if not found:
        raise no_norm()
    return found


def watch_norms(
    module: nn.Module, prunable: Iterable[str]
) -> tuple[dict[str, str], list[RemovableHandle]]:
    """Installs hooks that find, in the next forward pass, the norm behind each prunable weight.

    The mapping, which that pass fills, leads from a prunable weight to the norm's scale; the
    handles remove the hooks.
    """
    names = {id(value): name for name, value in module.named_parameters()}
    wanted = set(prunable)
    made: dict[int, tuple[str, Tensor]] = {}
    found: dict[str, str] = {}

    def remember(name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        made[id(output)] = (name, output)  # kept alive: another tensor must not get its id

    def match(name: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if id(inputs[0]) in made:
            found.setdefault(made[id(inputs[0])][0], name)

    handles = []
    for layer in module.modules():
        name = names.get(id(getattr(layer, "weight", None)), "")
        if name in wanted:
            handles.append(layer.register_forward_hook(partial(remember, name)))
        elif name and isinstance(layer, CHANNEL_NORMS):
            handles.append(layer.register_forward_pre_hook(partial(match, name)))
    return found, handles


def no_norm() -> UserError:
    """Makes the error for a network that has no norm layer to score channels by."""
    return UserError(
        f"{KEY}: the network has no batch or group norm with a scale right after a convolution "
        "or linear layer: use a network with norm layers (model.norm=batch), or another score"
    )


def _fine(value: Tensor) -> Tensor:
    return value.cpu().to(torch.promote_types(value.dtype, torch.float32))


def _spread(scores: Tensor, kept: Tensor) -> Tensor:
    """Repeats the score of each output channel over the channel's weights."""
    return scores.view(-1, *[1] * (kept.ndim - 1)).expand(kept.shape).clone()
