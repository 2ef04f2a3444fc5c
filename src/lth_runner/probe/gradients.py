"""Whether early gradients already point at the weights that will be kept."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

import torch

from lth_runner.allocate import Global
from lth_runner.control import permuted
from lth_runner.seeds import derive
from lth_runner.state import State
from lth_runner.task import Task
from lth_runner.ticket import Past, Trained


@dataclass(frozen=True)
class EarlyGradients:
    """Jaccard index of a mask and the support of the dense network's early gradients.

    The support is the top k, k = weights kept, of the mean |gradient| over the dense training's
    first ``num_steps`` steps. ``jaccard_chance`` is d / (2 - d), what two random masks of density
    d expect; ``jaccard_null`` the mean over ``num_nulls`` layer-wise shuffled masks, which leaves
    only what the mask says beyond its densities by layer.
    """

    num_steps: int = 100
    num_nulls: int = 3

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        dense = past[0] if past else trained
        if dense.ticket.mask.num_kept < dense.ticket.mask.num_prunable:
            return  # a search that prunes before its first training has no dense one
        magnitude = dense.derived(
            f"early-gradient-{self.num_steps}", lambda: mean_magnitude(dense, self.num_steps)
        )
        mask, seed = trained.mask, derive(task.seed, "probe", "early-gradient")
        # ties (inputs that never vary have zero gradient) are drawn by seed, not by position
        support = Global()(
            {name: magnitude[name] for name in mask}, mask.density, task.dense(), seed
        )
        yield "jaccard_early_gradient", mask.overlap(support)
        yield "jaccard_chance", mask.density / (2 - mask.density)
        nulls = (permuted(mask, seed + draw) for draw in range(self.num_nulls))
        yield "jaccard_null", fmean(null.overlap(support) for null in nulls)


def mean_magnitude(trained: Trained, num_steps: int) -> State:
    """Mean |gradient| over a training's first steps, by parameter name."""
    total: State = {}
    count = 0
    for gradients in trained.gradients(num_steps):
        for name, gradient in gradients.items():
            total[name] = total.get(name, torch.zeros_like(gradient)) + gradient.abs()
        count += 1
    return {name: (value / count).cpu() for name, value in total.items()}
