"""The seam for what prunes a network and moves the weights that stay: a mask and its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lth_runner.problem.task import Task
from lth_runner.values.mask import Mask
from lth_runner.values.state import State


@dataclass(frozen=True)
class Solution:
    """A mask, and new weights of the tensors that it covers, which are zero where it removes."""

    mask: Mask
    weights: State

    def packed(self) -> State:
        """Packs them as tensors for a file: a bit for each weight, and the kept ones' values."""
        bits = {f"bits.{name}": value for name, value in self.mask.packed().items()}
        return bits | {f"kept.{n}": self.weights[n][kept] for n, kept in self.mask.items()}

    @classmethod
    def unpacked(cls, state: Mapping[str, Tensor], like: Mask) -> Solution:
        """Unpacks what ``packed`` packs, of the tensors that another mask names."""
        shapes = {name: kept.shape for name, kept in like.items()}
        mask = Mask.unpacked({name: state[f"bits.{name}"] for name in shapes}, shapes)
        weights = {}
        for name, kept in mask.items():
            values = state[f"kept.{name}"]
            weights[name] = torch.zeros(kept.shape, dtype=values.dtype)
            weights[name][kept] = values
        return cls(mask, weights)


class Solve(Protocol):
    """Prunes a network to a density at once, with new weights for what stays.

    One with ``reads`` names in it what of the training samples it goes by, of labels and pixels;
    without, it is taken to go by both.
    """

    def check(self, task: Task, density: float) -> None:
        """Raises UserError, before any training, for what this problem cannot serve."""

    def __call__(self, task: Task, weights: State, density: float) -> Solution: ...
