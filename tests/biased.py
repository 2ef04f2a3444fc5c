"""A small network whose biases may be pruned, with values for its weights and scores."""

from __future__ import annotations

from dataclasses import replace

import torch

import small
from lth_runner.problem.task import Task
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

PERCEPTRON = replace(small.task(), biases=True)  # 16 -> 12 -> 3, biases at zero: 228 and 15


def drawn(task: Task, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights whose biases are no zeros."""
    return {
        name: torch.randn(value.shape, generator=stream(seed, "biases", name), dtype=torch.float64)
        if value.is_floating_point()
        else value
        for name, value in task.init().items()
    }


def noise(mask: Mask) -> dict[str, torch.Tensor]:
    return {n: torch.rand(k.shape, generator=stream(0, "noise", n)) for n, k in mask.items()}


def num_by_name(mask: Mask) -> dict[str, int]:
    return {name: int(kept.sum()) for name, kept in mask.items()}
