"""Batches in parts, where what a network makes of them is large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from lth_runner.problem.covers import is_conv1d
from lth_runner.values import tree
from lth_runner.values.tree import Batch, Tree

MANY, FEW = 2000, 250  # samples that an evaluation asks for at once
VALUES = 2**26  # of the largest tensor that an evaluation makes of tokens: 256 MiB of fp32
KEPT_VALUES = 2**28  # of all layers' outputs, which a gradient of tokens keeps: 1 GiB of fp32


def num_at_once(module: nn.Module, device: torch.device | str) -> int:
    """Says how many samples an evaluation asks a network for at once.

    Fewer of a network with convolutions on a CPU: what they make of many images is memory that the
    system hands out anew for every layer and batch, and takes half of an evaluation's time.
    """
    is_convolutional = any(isinstance(layer, _ConvNd) for layer in module.modules())
    return FEW if is_convolutional and torch.device(device).type == "cpu" else MANY


def for_evaluation(module: nn.Module, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Cuts batches so that no layer of a network makes more than ``VALUES`` of one."""
    return in_parts(batches, values_of_a_token(module), VALUES)


def for_gradient(module: nn.Module, batch: Batch) -> list[Batch]:
    """Cuts a batch so that all layers of a network keep no more than ``KEPT_VALUES`` of a part."""
    return list(in_parts([batch], values_kept_of_a_token(module), KEPT_VALUES))


def values_of_a_token(module: nn.Module) -> int:
    """Counts the values that the widest layer of a network makes of a token.

    That is the vocabulary's size where a head answers for it, else mostly the hidden layer's.
    """
    return max(_widths(module))


def values_kept_of_a_token(module: nn.Module) -> int:
    """Counts the values that all layers of a network make of a token: a gradient keeps them."""
    return sum(_widths(module))


def _widths(module: nn.Module) -> list[int]:
    widths = [1]
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            widths.append(layer.out_features)
        elif isinstance(layer, nn.Embedding):
            widths.append(layer.embedding_dim)
        elif is_conv1d(layer):
            own: Any = layer
            widths.append(own.nf)
    return widths


def in_parts(batches: Iterable[Batch], width: int, most: int = VALUES) -> Iterator[Batch]:
    """Cuts batches of tokens so that ``width`` values of each are no more than ``most``.

    Other batches stay whole. A part has one sample at least.
    """
    for inputs, targets in batches:
        num_tokens = _num_tokens(inputs)
        size = max(1, most // (width * num_tokens)) if num_tokens else tree.length(targets)
        if size >= tree.length(targets):
            yield inputs, targets
            continue
        yield from zip(tree.split(inputs, size), tree.split(targets, size), strict=True)


def _num_tokens(inputs: Tree) -> int:
    """Counts the tokens of a sample; 0 of what is none."""
    found = [
        value.shape[1]
        for value in tree.tensors(inputs)
        if value.ndim == 2 and value.dtype == torch.int64
    ]
    return max(found, default=0)
