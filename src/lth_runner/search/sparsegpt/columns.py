"""One matrix pruned column by column, its other weights moved so that it answers as it did."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lth_runner.allocate import keep_top
from lth_runner.allocate.n_of_m import best_of_groups
from lth_runner.values.seeds import stream


class Choose(Protocol):
    """Says which weights of some columns stay, by what their removal costs."""

    @property
    def num_columns(self) -> int:
        """Of how many columns it chooses at once."""

    def __call__(self, costs: Tensor, begin: int) -> Tensor:
        """Masks what stays of columns from ``begin`` on; costs are (rows, columns)."""


class SingularError(Exception):
    """The inner products of a layer's inputs have no inverse."""


@dataclass(frozen=True)
class BestOfBlock:
    """Keeps ``num_kept`` weights of a matrix, its share in each block of columns.

    Those whose removal costs most, over all rows of the block; equal ones are drawn by seed. The
    blocks' counts add up to ``num_kept``.
    """

    num_kept: int
    size: int  # columns of the matrix
    num_columns: int  # of a block
    seed: int

    def __call__(self, costs: Tensor, begin: int) -> Tensor:
        end = begin + costs.shape[1]
        before, after = (math.floor(self.num_kept * at / self.size + 0.5) for at in (begin, end))
        every = torch.ones_like(costs, dtype=torch.bool)
        return keep_top(costs, every, after - before, self.seed + begin)


@dataclass(frozen=True)
class BestOfGroup:
    """Keeps N of every M consecutive columns of each row; equal ones are drawn by seed."""

    num_kept: int
    group: int
    seed: int

    @property
    def num_columns(self) -> int:
        return self.group

    def __call__(self, costs: Tensor, begin: int) -> Tensor:
        chance = torch.rand(costs.shape, generator=stream(self.seed + begin, "ties"))
        return best_of_groups(costs, self.num_kept, self.group, chance.to(costs.device))


def inverse_factor(gram: Tensor, damping: float) -> tuple[Tensor, Tensor]:
    """Computes U, upper triangular, with U^T U = (H + d I)^-1; and which inputs are always 0.

    H (columns, columns) holds the sums of x_i x_j; d is ``damping`` times the mean of H_ii over
    inputs that are not always 0. For these H_ii is 1: they concern no other. U_cc^2 is then entry
    (c, c) of the inverse of H without the rows and columns before c, and U_c its row c times
    U_cc. Raises SingularError where there is no inverse.
    """
    squares = gram.diagonal()
    dead = squares == 0
    level = squares[~dead].mean() if bool((~dead).any()) else squares.new_tensor(1.0)
    ridge = torch.where(dead, torch.ones_like(squares), damping * level)
    # H = R R^T with R upper triangular, by the lower one of the matrix turned about: U = R^-1
    turned = torch.linalg.cholesky_ex((gram + ridge.diag()).flip(0, 1))
    if int(turned.info) or not bool(turned.L.isfinite().all()):
        raise SingularError
    upper = turned.L.flip(0, 1)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    return torch.linalg.solve_triangular(upper, eye, upper=True), dead


def prune(
    weight: Tensor, gram: Tensor, choose: Choose, *, block: int, damping: float
) -> tuple[Tensor, Tensor]:
    """Prunes a matrix (rows, columns) whose inputs have the inner products ``gram``.

    Column by column, from the first: what is removed of one is made up for by the columns after
    it, as well as these can, to the least squares (optimal brain surgeon, with all columns before
    fixed). ``choose`` says what stays of the next columns once it is their turn, by w_c^2 / U_cc^2,
    which is what the removal adds to the squared error. Updates beyond a ``block`` of columns wait
    until the block is done: that changes no number but by rounding. Columns of inputs that are
    always 0 cost nothing, go first, and keep their values where they stay.
    Returns the new matrix, zero where pruned, and what is kept. Raises SingularError.
    """
    factor, dead = inverse_factor(gram, damping)
    every_dead = bool(dead.all())  # no input was seen: magnitudes decide
    columns = weight.t().to(gram.dtype).contiguous()  # a column of the matrix lies in one piece
    moving = columns.clone()
    if not every_dead:
        moving[dead] = 0
    kept = torch.ones_like(columns, dtype=torch.bool)
    for begin, end in _pieces(len(columns), block):
        errors = torch.zeros_like(moving[begin:end])
        for first, last in _pieces(end, choose.num_columns, begin):
            scale = factor.diagonal()[first:last, None]
            costs = (moving[first:last] / scale).square()
            kept[first:last] = choose(costs.t().contiguous(), first).t()
            for column in range(first, last):
                removed = moving[column].masked_fill(kept[column], 0.0)
                error = removed / factor[column, column]
                moving[column + 1 : end].addr_(factor[column, column + 1 : end], error, alpha=-1)
                errors[column - begin] = error
        moving[end:].addmm_(factor[begin:end, end:].t(), errors, alpha=-1)
    moving[dead] = columns[dead]
    found = moving.masked_fill(~kept, 0.0)
    return found.t().contiguous().to(weight.dtype), kept.t().contiguous()


def _pieces(end: int, size: int, begin: int = 0) -> Iterator[tuple[int, int]]:
    for first in range(begin, end, size):
        yield first, min(first + size, end)
