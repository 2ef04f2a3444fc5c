"""An allocation of N of every M weights, a pattern that sparse matrix units can use."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.allocate.axes import check_axes
from lth_runner.allocate.budget import refuse_biases
from lth_runner.allocate.keep import tie_generator
from lth_runner.allocate.on_device import Choose, laid
from lth_runner.problem.task import Task
from lth_runner.score import Scores
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import others, select

KEY = "pruner.budgets.n_of_m.transposed"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NOfM:
    """Keeps the N best of every M = ``group`` consecutive input channels, N = ceil(density * M).

    A weight is (out, in, *kernel): a group is M entries along ``in``, at one output channel and one
    place of the kernel. Layers whose weight is (in, out), transformers' Conv1D, have their groups
    on the first axis: ``transposed`` names them. Layers whose input channels M does not divide stay
    as they are, and a warning names them; with them the whole keeps more than ``density``. Equal
    scores are drawn by seed. 2:4 from a trained network's magnitudes, at once and trained again:
    Mishra et al. 2021, arXiv 2104.08378. ``sparsity`` is the target that is checked: raises
    UserError where (1 - sparsity) * M is no whole number, and where M divides the inputs of no
    layer. Without it the densities are those of rounds, and a warning says where one is rounded up.
    """

    group: int = 4
    exclude: Sequence[str] = ()
    sparsity: float | None = None
    transposed: Sequence[str] = ()

    def __post_init__(self) -> None:
        whole = isinstance(self.group, int) and not isinstance(self.group, bool)
        if not whole or self.group < 2:
            raise UserError(
                f"pruner.budgets.n_of_m.group={self.group!r}: give a whole number, at least 2"
            )
        if self.sparsity is None:
            return
        num = (1 - self.sparsity) * self.group
        if abs(num - round(num)) > 1e-6 or not 1 <= round(num) < self.group:
            accepted = ", ".join(f"{1 - n / self.group:g}" for n in range(self.group - 1, 0, -1))
            raise UserError(
                f"pruner.sparsity={self.sparsity} is not that of N in {self.group} weights: "
                f"accepted: {accepted}, or others with another pruner.budgets.n_of_m.group"
            )

    def check_layers(self, task: Task) -> None:
        """Raises UserError for layers whose inputs are on another axis than is said."""
        what = "groups the inputs"
        check_axes(task, self.exclude, self.transposed, scope="n_of_m", what=what)

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask:
        grouped, num = self.layers(within), self.num_kept(density)
        axes = self.axes(within)
        kept = dict(within)
        for index, name in enumerate(within):
            if name not in grouped:
                continue
            if not bool(torch.isfinite(scores[name][within[name]]).all()):
                raise UserError(
                    f"scores of {name} are not finite (NaN or infinity): the training before has "
                    "diverged, or the score is too large for a network so deep"
                )
            chance = _chance(within[name], seed + index)
            kept[name] = self._best(scores[name], within[name], num, chance, axes[name])
        return Mask(kept)

    def on_device(self, density: float, within: Mask, seed: int, device: torch.device) -> Choose:
        grouped, num = self.layers(within), self.num_kept(density)
        axes, inside = self.axes(within), laid(within, device)
        chances = {
            name: _chance(within[name], seed + index).to(device)
            for index, name in enumerate(within)
            if name in grouped
        }

        def choose(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return inside | {
                name: self._best(scores[name], inside[name], num, chance, axes[name])
                for name, chance in chances.items()
            }

        return choose

    def _best(self, scores: Tensor, within: Tensor, num: int, chance: Tensor, axis: int) -> Tensor:
        among = scores.masked_fill(~within, -math.inf)
        return best_of_groups(among, num, self.group, chance, axis=axis) & within

    def num_kept(self, density: float) -> int:
        """Counts N, the weights of a group that stay, rounded up."""
        num = max(1, math.ceil(density * self.group - 1e-6))
        if self.sparsity is None and abs(num - density * self.group) > 1e-6:
            _warn_rounded(num, self.group, 1 - density)
        return num

    def layers(self, within: Mask) -> tuple[str, ...]:
        """Names the layers that are grouped; a warning, once, names those M does not divide."""
        refuse_biases(within, "n_of_m")
        names = others(self.exclude, within, "pruner.exclude")
        axes = self.axes(within)
        uneven = tuple(n for n in names if within[n].shape[axes[n]] % self.group)
        if len(uneven) == len(names):
            raise UserError(
                f"pruner.scope=n_of_m: no layer has input channels in groups of {self.group}"
            )
        if uneven:
            _warn(uneven, self.group)
        return tuple(name for name in names if name not in uneven)

    def axes(self, within: Mask) -> dict[str, int]:
        """Gives the axis of each weight on which its inputs lie."""
        turned = select(self.transposed, within, KEY)
        return {name: 0 if name in turned else 1 for name in within}


def _chance(within: Tensor, seed: int) -> Tensor:
    """Draws which of equal scores come first."""
    return torch.rand(within.shape, generator=tie_generator(seed))


def best_of_groups(
    scores: Tensor, num: int, group: int, chance: Tensor | None = None, *, axis: int = 1
) -> Tensor:
    """Masks the ``num`` largest of every ``group`` entries along an axis, on their device.

    Of equal ones it takes those with the larger ``chance``, without it the first.
    """
    if axis == 0:
        luck = None if chance is None else chance.transpose(0, 1)
        turned = best_of_groups(scores.transpose(0, 1), num, group, luck)
        return turned.transpose(0, 1).contiguous()
    values = _in_groups(scores, group)
    luck = None if chance is None else _in_groups(chance, group)
    # by counting who is ahead, in pairs: of a few entries that is quicker than sorting them
    ahead = torch.zeros(values.shape, dtype=torch.int16, device=scores.device)
    for one in range(group):
        for other in range(one + 1, group):
            behind = values[other] > values[one]
            if luck is not None:
                behind |= (values[other] == values[one]) & (luck[other] > luck[one])
            ahead[one] += behind
            ahead[other] += ~behind
    return (ahead < num).movedim(0, -1).flatten(-2).movedim(-1, 1).contiguous()


def _in_groups(values: Tensor, group: int) -> Tensor:
    """Lays (out, in, *kernel) out as (group, out, *kernel, in / group), contiguous."""
    return values.movedim(1, -1).unflatten(-1, (-1, group)).movedim(-1, 0).contiguous()


@functools.lru_cache(maxsize=16)
def _warn(names: tuple[str, ...], group: int) -> None:
    """Warns once in a process, since the same holds for every replicate and every round."""
    log.warning(
        "warning: left dense, since their input channels are no multiple of %d: %s",
        group, ", ".join(names),
    )  # fmt: skip


@functools.lru_cache(maxsize=64)
def _warn_rounded(num: int, group: int, sparsity: float) -> None:
    """Warns once in a process for each density."""
    found = 1 - num / group
    log.warning(
        "warning: a sparsity of %.4g is not that of N in %d weights: %d of every %d are kept, %s",
        sparsity, group, num, group,
        f"a sparsity of {found:.4g}, as pruner.sparsity={found:.4g} would ask for"
        if found else "and so nothing is removed",
    )  # fmt: skip
