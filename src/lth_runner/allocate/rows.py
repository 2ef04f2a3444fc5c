"""An allocation that compares weights within each output row alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.allocate.axes import check_axes
from lth_runner.allocate.budget import Budget, Counts, refuse_biases
from lth_runner.allocate.keep import check_finite, keep_top, tie_generator
from lth_runner.allocate.on_device import Choose, Top, laid
from lth_runner.problem.task import Task
from lth_runner.score import Scores
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import select

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
        counts, turned = self._counts(density, within), select(self.transposed, within, KEY)
        kept = dict(within)
        for index, (name, inside) in enumerate(within.items()):
            if name not in counts:
                continue
            score, left = (_matrix(part, turned=name in turned) for part in (scores[name], inside))
            rows = _best_of_rows(score, left, counts[name], seed + index)
            kept[name] = (rows.t() if name in turned else rows).reshape(inside.shape)
        return Mask(kept)

    def on_device(self, density: float, within: Mask, seed: int, device: torch.device) -> Choose:
        counts, turned = self._counts(density, within), select(self.transposed, within, KEY)
        left = laid(within, device)
        best = {
            name: _on_device(
                _matrix(inside, turned=name in turned), counts[name], seed + index, device
            )
            for index, (name, inside) in enumerate(within.items())
            if name in counts
        }

        def rows(name: str, score: Tensor) -> Tensor:
            kept = best[name](_matrix(score, turned=name in turned))
            return (kept.t() if name in turned else kept).reshape(score.shape)

        return lambda scores: left | {name: rows(name, scores[name]) for name in best}

    def _counts(self, density: float, within: Mask) -> Counts:
        refuse_biases(within, "rows")
        budget = Budget.of(density, within, self.exclude)
        sizes = {name: float(within[name].numel()) for name in budget.capacity}
        shares = budget.proportional(sizes)
        return budget.whole_numbers(shares, avoid_collapse=self.avoid_collapse)


def _matrix(values: Tensor, *, turned: bool) -> Tensor:
    """Lays a weight out as (outputs, what goes into each)."""
    return values.t() if turned else values.flatten(1)


def _best_of_rows(scores: Tensor, within: Tensor, num_kept: int, seed: int) -> Tensor:
    """Masks the best ``num_kept`` of a matrix (rows, columns), evenly over its rows."""
    check_finite(scores, within)
    level = _level(within.sum(1, keepdim=True), num_kept)
    kept, next_best = _even(scores, within, _chance(within, seed), level)
    return kept | keep_top(scores, next_best, num_kept - int(kept.sum()), seed)


def _on_device(
    within: Tensor, num_kept: int, seed: int, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """Prepares ``_best_of_rows`` of scores on a device."""
    left = within.sum(1, keepdim=True)
    level = _level(left, num_kept)
    rest = Top(num_kept - int(left.clamp(max=level).sum()), seed, device)
    chance, inside = _chance(within, seed).to(device), within.to(device)

    def choose(scores: Tensor) -> Tensor:
        kept, next_best = _even(scores, inside, chance, level)
        return kept | rest([scores], [next_best])[0]

    return choose


def _chance(within: Tensor, seed: int) -> Tensor:
    """Draws the order of the columns of each row in which equal scores stay."""
    return torch.rand(within.shape, generator=tie_generator(seed)).argsort(1)


def _even(scores: Tensor, within: Tensor, chance: Tensor, level: int) -> tuple[Tensor, Tensor]:
    """Masks the best ``level`` of each row, and by itself the one that would come next."""
    among = scores.masked_fill(~within, -math.inf).gather(1, chance)
    order = chance.gather(1, among.argsort(dim=1, descending=True, stable=True))
    left, places = within.sum(1, keepdim=True), torch.arange(len(within.t()), device=within.device)
    kept = torch.zeros_like(within).scatter(1, order, places < left.clamp(max=level))
    after = torch.zeros_like(within).scatter(1, order, (places == level) & (places < left))
    return kept, after


def _level(left: Tensor, num_kept: int) -> int:
    """Finds how many every row can keep, or all that is left of it, within ``num_kept``."""
    columns = int(left.max())
    deeper = len(left) - torch.bincount(left.flatten(), minlength=columns + 1).cumsum(0)[:columns]
    return int((deeper.cumsum(0) <= num_kept).sum())
