"""How much each weight matters: saliencies by prunable name; LARGER = KEEP for every score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from lth_runner.mask import Mask
from lth_runner.seeds import stream
from lth_runner.state import State
from lth_runner.task import Task

Scores = State  # prunable name -> saliency, same shape as the weight


class Score(Protocol):
    """Saliency of every prunable weight at ``weights``; what lies outside ``mask`` is ignored."""

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores: ...


@dataclass(frozen=True)
class Magnitude:
    """|theta| (Han et al., NeurIPS 2015, arXiv 1506.02626)."""

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        return {name: weights[name].abs() for name in mask}


@dataclass(frozen=True)
class Random:
    """U(0, 1), a function of the task's seed: the score that knows nothing."""

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        return {
            name: torch.rand(kept.shape, generator=stream(task.seed, "search", "random", name))
            for name, kept in mask.items()
        }
