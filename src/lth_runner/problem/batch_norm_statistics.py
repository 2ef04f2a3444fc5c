"""Measuring batch norm's running statistics anew: they belong to the data and are not trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from lth_runner.problem.answers import answer
from lth_runner.values import tree
from lth_runner.values.state import State
from lth_runner.values.tree import Batch

SIZE = 500  # samples of one batch
NAMES = ("running_mean", "running_var", "num_batches_tracked")


def with_statistics(module: nn.Module) -> dict[str, nn.modules.batchnorm._NormBase]:
    """Finds the layers that keep running statistics, by their path."""
    return {
        path: layer
        for path, layer in module.named_modules()
        if isinstance(layer, nn.modules.batchnorm._NormBase) and layer.running_mean is not None
    }


@torch.no_grad()
def recompute(module: nn.Module, batches: Sequence[Batch]) -> None:
    """Measures running statistics anew, as the mean of each whole batch's own."""
    layers = list(with_statistics(module).values())
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # cumulative: every batch weighs the same
        layer.train()
    for inputs, _ in [b for b in batches if tree.length(b[1]) == SIZE] or batches:
        answer(module, inputs)
    for layer, momentum in zip(layers, before, strict=True):
        layer.momentum = momentum
        layer.eval()


def pieces(batch: Batch) -> list[Batch]:
    """Cuts samples into the batches that statistics are measured on, the last one short."""
    inputs, targets = (tree.split(part, SIZE) for part in batch)
    return list(zip(inputs, targets, strict=True))


def statistics(module: nn.Module) -> State:
    """Copies running means, variances and counters to the CPU, by name."""
    return {
        f"{path}.{name}" if path else name: value.cpu().clone()
        for path, layer in with_statistics(module).items()
        for name, value in layer.named_buffers(recurse=False)
        if name in NAMES  # scales and shifts that coordinates have frozen are buffers too
    }
