"""An allocation that keeps or removes whole blocks of a weight matrix."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lth_runner.allocate.budget import refuse_biases
from lth_runner.allocate.on_device import Choose, laid
from lth_runner.allocate.threshold import Global
from lth_runner.problem.requirements import check_kinds
from lth_runner.problem.task import Task
from lth_runner.score import Scores
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import others, select

WORTHS = ("mean", "max")
KEY = "pruner.budgets.blocks"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Blocks:
    """Keeps the best round(density * B) of B blocks of ``shape`` (rows, columns), one threshold.

    A weight (out, in, *kernel) is the matrix (out, in x kernel) that a product of matrices would
    take. A block is worth the ``mean`` of its scores, or the largest (``max``; both as in
    jaxpruner, Lee et al. 2023, arXiv 2304.14082). Layers whose sizes the shape does not divide stay
    as they are, and a warning names them: with them the whole keeps more than ``density``. A block
    is there as long as one of its weights is. Equal scores are drawn by seed. ``avoid_collapse``:
    at least one block stays in every layer. Raises UserError where the shape divides no layer.
    Blocks for speed: Narang et al. 2017, arXiv 1711.02782.
    """

    shape: Sequence[int] = (4, 4)
    worth: Literal["mean", "max"] = "mean"
    exclude: Sequence[str] = ()
    avoid_collapse: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))
        whole = all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in self.shape)
        if len(self.shape) != 2 or not whole or self.shape == (1, 1):
            raise UserError(
                f"{KEY}.shape={list(self.shape)}: give rows and columns of a block, whole numbers "
                "and not both 1, [4,4] for example"
            )
        if self.worth not in WORTHS:
            raise UserError(f"{KEY}.worth={self.worth!r}: {nearest(str(self.worth), WORTHS)}")

    def check_layers(self, task: Task) -> None:
        """Raises UserError for layers whose weights do not have their outputs on the first axis."""
        self.layers(task.dense())
        spared = select(self.exclude, task.prunable, "pruner.exclude")
        names = [name for name in task.prunable if name not in spared]
        what = "pruner.scope=blocks cuts a weight (out, in, ...) into blocks"
        check_kinds(task, names, ("linear", "convolution"), what)

    def layers(self, within: Mask) -> tuple[str, ...]:
        """Names the layers that are cut into blocks; a warning, once, names those not divided."""
        refuse_biases(within, "blocks")
        names = others(self.exclude, within, "pruner.exclude")
        uneven = tuple(name for name in names if not self._divides(within[name]))
        if len(uneven) == len(names):
            raise UserError(
                f"{KEY}.shape={list(self.shape)} divides no layer: as matrices they are "
                + ", ".join(f"{n} {tuple(within[n].flatten(1).shape)}" for n in names)
            )
        if uneven:
            _warn(uneven, tuple(self.shape))
        return tuple(name for name in names if name not in uneven)

    def _divides(self, weight: Tensor) -> bool:
        matrix = weight.flatten(1)
        return not any(size % part for size, part in zip(matrix.shape, self.shape, strict=True))

    def __call__(self, scores: Scores, density: float, within: Mask, seed: int) -> Mask:
        names = self.layers(within)
        left = Mask({name: self._in_blocks(within[name]).any(2) for name in names})
        worth = {name: self._worth(scores[name], within[name]) for name in names}
        kept = Global(avoid_collapse=self.avoid_collapse)(worth, density, left, seed)
        return Mask(self._filled(within, kept))

    def on_device(self, density: float, within: Mask, seed: int, device: torch.device) -> Choose:
        names, inside = self.layers(within), laid(within, device)
        left = Mask({name: self._in_blocks(within[name]).any(2) for name in names})
        best = Global(avoid_collapse=self.avoid_collapse).on_device(density, left, seed, device)

        def choose(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
            worth = {name: self._worth(scores[name], inside[name]) for name in names}
            return self._filled(inside, best(worth))

        return choose

    def _filled(
        self, within: Mapping[str, Tensor], kept: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Masks the weights of the blocks that are kept; layers that are not named stay."""
        rows, columns = self.shape

        def spread(blocks: Tensor) -> Tensor:
            return blocks.repeat_interleave(rows, 0).repeat_interleave(columns, 1)

        return {
            name: inside & spread(kept[name]).view_as(inside) if name in kept else inside
            for name, inside in within.items()
        }

    def _in_blocks(self, values: Tensor) -> Tensor:
        """Lays a weight out as (blocks down, blocks across, weights of a block)."""
        rows, columns = self.shape
        cut = values.flatten(1).unflatten(1, (-1, columns)).unflatten(0, (-1, rows))
        return cut.transpose(1, 2).flatten(2)

    def _worth(self, scores: Tensor, within: Tensor) -> Tensor:
        """Computes what each block is worth, over the weights that are left of it.

        In double precision, so that equal blocks remain equal.
        """
        values, inside = self._in_blocks(scores).double(), self._in_blocks(within)
        if self.worth == "max":
            largest = values.masked_fill(~inside, -torch.inf).amax(2)
            return torch.where(inside.any(2), largest, 0)
        return torch.where(inside, values, 0).sum(2) / inside.sum(2).clamp(min=1)


@functools.lru_cache(maxsize=16)
def _warn(names: tuple[str, ...], shape: tuple[int, int]) -> None:
    """Warns once in a process, since the same holds for every replicate and every round."""
    log.warning(
        "warning: left dense, since blocks of %d x %d do not divide them: %s",
        *shape,
        ", ".join(names),
    )
