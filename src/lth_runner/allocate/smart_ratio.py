"""An allocation that gives layers densities by their depth alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from lth_runner.allocate.budget import Budget, Counts, refuse_biases
from lth_runner.allocate.on_device import Choose
from lth_runner.problem.requirements import check_kinds
from lth_runner.problem.task import Task
from lth_runner.score import Scores
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import select

FORMS = ("resnet", "vgg")


@dataclass(frozen=True)
class SmartRatio:
    """Gives layers densities that fall with their depth: d_l ~ (L-l+1)^2 + (L-l+1), l = 1..L.

    In the form for VGG it is divided by l^2. Linear layers keep ``linear``; a network of linear
    layers alone keeps that of its last one. A layer that would have more weights than it holds is
    dense and hands its surplus to the next layers, and the last of them to the linear ones. With
    random scores these are the random tickets of Su et al., NeurIPS 2020 (arXiv 2009.11094); with
    the trained network's magnitudes their hybrid tickets.
    """

    shards: ClassVar[bool] = True

    exclude: Sequence[str] = ()
    form: Literal["resnet", "vgg"] = "resnet"
    linear: float = 0.3
    avoid_collapse: bool = False

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise UserError(f"pruner.form={self.form!r}: {nearest(str(self.form), FORMS)}")
        if isinstance(self.linear, bool) or not 0 <= self.linear <= 1:
            raise UserError(f"pruner.linear={self.linear} is outside [0, 1]: it is a density")

    def check_layers(self, task: Task) -> None:
        """Raises UserError for layers that the law does not know."""
        spared = select(self.exclude, task.prunable, "pruner.exclude")
        names = [name for name in task.prunable if name not in spared]
        what = "pruner.scope=smart_ratio has densities for convolutions and linear layers alone"
        check_kinds(task, names, ("linear", "convolution", "transposed_convolution"), what)

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask:
        budget, counts = self._counts(density, within)
        return budget.keep(counts, scores, within, seed)

    def on_device(self, density: float, within: Mask, seed: int, device: torch.device) -> Choose:
        budget, counts = self._counts(density, within)
        return budget.keep_on_device(counts, within, seed, device)

    def _counts(self, density: float, within: Mask) -> tuple[Budget, Counts]:
        refuse_biases(within, "smart_ratio")
        budget = Budget.of(density, within, self.exclude)
        shares = self.shares(budget, within)
        return budget, budget.whole_numbers(shares, avoid_collapse=self.avoid_collapse)

    def shares(self, budget: Budget, within: Mask) -> dict[str, float]:
        """Shares the budget out to the layers, to none more than it holds."""
        deep = self._by_depth(within)
        shares, wanted = {}, {}
        for name, capacity in budget.capacity.items():
            if name in deep:
                wanted[name] = deep[name] * within[name].numel()
            else:
                shares[name] = min(self.linear * within[name].numel(), float(capacity))
        left = budget.total - sum(shares.values())
        if left < 0:
            raise UserError(
                f"{budget.total} weights are to be kept, but the linear layers alone keep "
                f"{round(sum(shares.values()))}: lower pruner.linear={self.linear} or the sparsity"
            )
        factor = left / (sum(wanted.values()) or 1.0)
        surplus = 0.0
        for name, share in wanted.items():
            full = factor * share + surplus
            shares[name] = min(full, float(budget.capacity[name]))
            surplus = full - shares[name]
        # the first ones last: what the deepest layers cannot take, layers before them may
        for name in (*wanted, *shares):
            more = min(surplus, budget.capacity[name] - shares[name])
            shares[name] += more
            surplus -= more
        return {name: shares[name] for name in budget.capacity}

    def _by_depth(self, within: Mask) -> dict[str, float]:
        """Computes unscaled densities where depth decides them; excluded layers count in l and L.

        Depth decides those of convolutions, and in a network without any those of all linear
        layers but the last.
        """
        depth = len(within)
        convolves = any(kept.ndim > 2 for kept in within.values())
        last = list(within)[-1]
        found = {}
        for index, (name, kept) in enumerate(within.items(), start=1):
            if kept.ndim > 2 or (not convolves and name != last):
                rest = depth - index + 1
                found[name] = (rest**2 + rest) / (index**2 if self.form == "vgg" else 1)
        return found
