"""Principal components of networks, of which there are far fewer than they have weights."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.values.errors import UserError

BLOCK = 2**16  # weights, or networks, that are widened to float64 at once
ROUNDING = 1e-12  # of the largest variance: what is below it is rounding


@dataclass(frozen=True, eq=False)
class Principal:
    """A plane through the mean: ``components`` [num, weights] of unit length, at right angles.

    ``explained``: the share of the squared distances to the mean that lies in it.
    """

    mean: Tensor
    components: Tensor
    explained: float

    @classmethod
    def of(cls, rows: Tensor, num: int) -> Principal:
        """Finds the ``num`` directions of most variance, largest first.

        By the products of every two networks where these are fewer than their weights (Gram),
        else by those of every two weights; either is added up block by block in float64, so that
        no more than a block is in memory besides. A direction's sign is that of its largest entry.
        Raises UserError for more directions than the networks span, where some are equal.
        """
        mean = rows.double().mean(0) if rows.numel() < BLOCK else _mean(rows)
        total, wide = 0.0, rows.shape[1] > rows.shape[0]
        products = torch.zeros((min(rows.shape),) * 2, dtype=torch.float64)
        for block in range(0, max(rows.shape), BLOCK):
            part = slice(block, block + BLOCK)
            piece = rows[:, part] - mean[part] if wide else rows[part].double() - mean
            products += piece @ piece.t() if wide else piece.t() @ piece
            total += float(piece.square().sum())
        values, vectors = torch.linalg.eigh(products)
        if (rank := int((values > ROUNDING * values[-1]).sum())) < num:
            raise UserError(
                f"dataset.components={num}: the networks span {rank} directions, for some of them "
                f"are equal: set it to {rank} at most, or take each network once"
                if rank
                else f"dataset.components={num}: the networks are all equal and span no direction"
            )
        values, vectors = values.flip(0)[:num].clamp(min=0), vectors.flip(1)[:, :num]
        components = vectors.t()
        if wide:
            components = torch.cat(
                [vectors.t() @ (rows[:, b : b + BLOCK] - mean[b : b + BLOCK])
                 for b in range(0, rows.shape[1], BLOCK)], 1
            )  # fmt: skip
            components = components / components.norm(dim=1, keepdim=True)
        largest = components.gather(1, components.abs().argmax(1, keepdim=True))
        components = components * largest.sign()
        share = float(values.sum()) / total if total else 1.0
        return cls(mean.float(), components.float(), min(1.0, share))

    def reduced(self, rows: Tensor) -> Tensor:
        """Computes the coordinates of networks, [networks, num]."""
        return (rows - self.mean) @ self.components.t()

    def back(self, points: Tensor) -> Tensor:
        """Computes the weights of points."""
        return self.mean + points @ self.components


def _mean(rows: Tensor) -> Tensor:
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for row in rows:
        total += row
    return total / len(rows)
