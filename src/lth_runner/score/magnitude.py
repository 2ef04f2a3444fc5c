"""Scores that need no data: the weights' magnitude, and chance."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lth_runner.problem.task import Task
from lth_runner.score.score import Scores
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.state import State


@dataclass(frozen=True)
class Magnitude:
    """Scores each weight by |theta| (Han et al., NeurIPS 2015, arXiv 1506.02626)."""

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        return {name: weights[name].abs() for name in mask}


@dataclass(frozen=True)
class Random:
    """Scores each weight by a draw from U(0, 1), a function of the task's seed alone."""

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        return {
            name: torch.rand(kept.shape, generator=stream(task.seed, "search", "random", name))
            for name, kept in mask.items()
        }
