"""An allocation that compares weights within each output row alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.allocate.axes import check_axes
from lth_runner.allocate.budget import Budget, refuse_biases
from lth_runner.allocate.keep import check_finite, keep_top
from lth_runner.problem.task import Task
from lth_runner.score import Scores
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import select
from lth_runner.values.seeds import stream

KEY = "pruner.budgets.rows.transposed"


@dataclass(frozen=True)
class Rows:
    """Keeps the best of each output row, the same number in every row of a layer but for one.

    A row is all that goes into one output: weight[i] of a weight (out, in, *kernel), the i-th
    column in layers whose weight is (in, out), which ``transposed`` names (transformers' Conv1D).
    Every layer keeps the same share, to the weight: rounded down, the largest remainders up. Where
    that is no whole number a row, those rows keep one more whose next weights score highest. A row
    of which less is left keeps what there is, and the others of its layer give less. Layers in
    ``exclude`` stay, and the others give what these do not. ``avoid_collapse``: at least one weight
    of every layer. Equal scores are drawn by seed.
    Sun et al., ICLR 2024, arXiv 2306.11695, who round each row's number.
    """

    exclude: Sequence[str] = ()
    avoid_collapse: bool = False
    transposed: Sequence[str] = ()

    def check_layers(self, task: Task) -> None:
        """Raises UserError for layers whose outputs are on another axis than is said."""
        what = "compares what goes into one output"
        check_axes(task, self.exclude, self.transposed, scope="rows", what=what)

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask:
        refuse_biases(within, "rows")
        budget = Budget.of(density, within, self.exclude)
        sizes = {name: float(within[name].numel()) for name in budget.capacity}
        shares = budget.proportional(sizes)
        counts = budget.whole_numbers(shares, avoid_collapse=self.avoid_collapse)
        turned = select(self.transposed, within, KEY)
        kept = dict(within)
        for index, (name, inside) in enumerate(within.items()):
            if name not in counts:
                continue
            if name in turned:
                rows = _best_of_rows(scores[name].t(), inside.t(), counts[name], seed + index).t()
            else:
                flat = scores[name].flatten(1), inside.flatten(1)
                rows = _best_of_rows(*flat, counts[name], seed + index)
            kept[name] = rows.reshape(inside.shape)
        return Mask(kept)


def _best_of_rows(scores: Tensor, within: Tensor, num_kept: int, seed: int) -> Tensor:
    """Masks the best ``num_kept`` of a matrix (rows, columns), evenly over its rows."""
    order = _best_first(scores, within, seed)
    left = within.sum(1, keepdim=True)
    places = torch.arange(within.shape[1])
    level = _level(left, num_kept)
    kept = torch.zeros_like(within).scatter(1, order, places < left.clamp(max=level))
    next_best = torch.zeros_like(within).scatter(1, order, (places == level) & (places < left))
    return kept | keep_top(scores, next_best, num_kept - int(kept.sum()), seed)


def _best_first(scores: Tensor, within: Tensor, seed: int) -> Tensor:
    """Orders the columns of each row from the best to the worst, those outside ``within`` last."""
    check_finite(scores, within)
    chance = torch.rand(scores.shape, generator=stream(seed, "ties")).argsort(1)
    among = scores.masked_fill(~within, -math.inf).gather(1, chance)
    return chance.gather(1, among.argsort(dim=1, descending=True, stable=True))


def _level(left: Tensor, num_kept: int) -> int:
    """Finds how many every row can keep, or all that is left of it, within ``num_kept``."""
    columns = int(left.max())
    deeper = len(left) - torch.bincount(left.flatten(), minlength=columns + 1).cumsum(0)[:columns]
    return int((deeper.cumsum(0) <= num_kept).sum())
