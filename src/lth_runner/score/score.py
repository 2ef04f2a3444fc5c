"""The seam for scores: what every score takes and answers."""

from __future__ import annotations

from typing import Protocol

from lth_runner.problem.task import Task
from lth_runner.values.mask import Mask
from lth_runner.values.state import State

Scores = State  # prunable name -> saliency, same shape as the tensor, on the CPU


class Score(Protocol):
    """Says how much each prunable weight matters; larger means keep.

    The answer holds a tensor of the weight's shape for each name of ``mask``; what it says of
    weights outside ``mask`` is ignored. ``weights`` are not masked yet: a score of the masked
    network applies ``mask`` itself.
    """

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores: ...
