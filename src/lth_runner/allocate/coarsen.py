"""From single weights to what hardware can use: whole channels, or dense blocks of a matrix."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from lth_runner.allocate.keep import keep_top
from lth_runner.problem.requirements import check_kinds
from lth_runner.problem.task import Task
from lth_runner.score import Scores
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import select, spares_others

EQUAL = 1e-9  # within which eigenvalues, from 0 to 1, are equal
GOLDEN = (5**0.5 - 1) / 2  # its multiples are spread evenly


class Coarsen(Protocol):
    """Turns an unstructured mask into a structured one of about as many weights.

    The structured mask is not nested in the other: what it fills had been removed. ``scores`` say
    what the kept weights are worth.
    """

    @property
    def called(self) -> str:
        """Names it in messages."""

    def check_layers(self, task: Task) -> None:
        """Raises UserError for layers that have no channels or rows."""

    def __call__(self, mask: Mask, scores: Scores, seed: int) -> Mask: ...


@dataclass(frozen=True)
class Refill:
    """Keeps as many whole channels of each layer as its kept weights would fill.

    Of C channels of F weights each, n = floor(kept / F) stay dense, at least one, and the others
    go; with ``extra`` e, refill+, n = floor(kept / F + e (C - kept / F)). A channel is worth the
    sum of the scores of its kept weights. Exactly n stay, ties by seed: the authors' code keeps
    one more, and leaves those tied with the last one unstructured. The last layer, whose channels
    are the answers, and those in ``exclude`` stay as they are, and so does a layer of which
    nothing was removed. Chen et al., "Coarsening the Granularity: Towards Structurally Sparse
    Lottery Tickets", ICML 2022, arXiv 2202.04736.
    """

    extra: float = 0.0
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.extra, bool) or not 0 <= self.extra < 1:
            raise UserError(
                f"refill's extra={self.extra!r} is the share of the other channels that stays too: "
                "give a number from 0 (refill) to below 1, 0.1 for example"
            )

    @property
    def called(self) -> str:
        """Names it as its control is named."""
        return "refill_plus" if self.extra else "refill"

    def check_layers(self, task: Task) -> None:
        """Raises UserError for layers whose weights do not have their outputs on the first axis."""
        _check_rows(task, self.exclude, "refill keeps whole output channels")

    def num_channels(self, kept: Tensor) -> int:
        """Counts n, the channels of a layer that stay."""
        num, fan_in = len(kept), kept[0].numel()
        full = int(kept.sum()) / fan_in
        return max(1, math.floor(full + self.extra * (num - full) + 1e-9))

    def __call__(self, mask: Mask, scores: Scores, seed: int) -> Mask:
        filled = dict(mask)
        for index, name in enumerate(_inner(mask, self.exclude)):
            kept = mask[name]
            if bool(kept.all()):
                continue
            worth = _kept(scores[name], kept).flatten(1).sum(1)
            rows = keep_top(
                worth, torch.ones_like(worth).bool(), self.num_channels(kept), seed + index
            )
            filled[name] = rows.view(-1, *[1] * (kept.ndim - 1)).expand(kept.shape).clone()
        return Mask(filled)


@dataclass(frozen=True)
class Regroup:
    """Gathers the kept weights of each layer into dense blocks: groups of rows by some columns.

    A weight (out, in, *kernel) is the matrix (out, in x kernel). Its rows that have weights left
    are cut into groups of at most ``rows`` that share columns, by recursive spectral bisection of
    the rows' cosines (Pothen et al., SIAM J. Matrix Anal. Appl. 1990), in place of the authors'
    hypergraph partitioner, which is a closed program. A group's column is then worth the mean of
    its kept weights' scores over the group's rows (none: 0); columns are taken, the worthiest of
    all groups first, as long as the block weights fit into the number of weights that the layer
    has left, and at least one: so a layer keeps its density but for less than one column of a
    group; one that is empty gets a weight back. The authors grow each block until every row has 1.5
    times as many columns in it as weights outside, and so end at another density. Ties
    by seed. The last layer, those in ``exclude`` and those of which nothing was removed stay as
    they are. Chen et al., ICML 2022, arXiv 2202.04736.
    """

    rows: int = 32
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        if isinstance(self.rows, bool) or not isinstance(self.rows, int) or self.rows < 1:
            raise UserError(
                f"regroup's rows={self.rows!r} is how many rows a block has at most: give a whole "
                "number above 0, 32 for example"
            )

    @property
    def called(self) -> str:
        """Names it as its control is named."""
        return "regroup"

    def check_layers(self, task: Task) -> None:
        """Raises UserError for layers whose weights do not have their outputs on the first axis."""
        _check_rows(task, self.exclude, "regroup gathers rows, which are output channels")

    def __call__(self, mask: Mask, scores: Scores, seed: int) -> Mask:
        blocks = dict(mask)
        for index, name in enumerate(_inner(mask, self.exclude)):
            kept = mask[name]
            if bool(kept.all()):
                continue
            if not bool(kept.any()):  # no layer stays empty: one weight, by lot
                nothing = torch.zeros(kept.shape)
                kept = keep_top(nothing, torch.ones_like(kept), 1, seed + index)
            worth = _kept(scores[name], kept).flatten(1)
            matrix = self._blocks(kept.flatten(1), worth, seed + index)
            blocks[name] = matrix.view_as(kept)
        return Mask(blocks)

    def _blocks(self, kept: Tensor, worth: Tensor, seed: int) -> Tensor:
        rows = groups_of_rows(kept.numpy(), self.rows)
        sizes = torch.tensor([len(group) for group in rows])
        means = torch.stack([worth[group].sum(0) / len(group) for group in rows])  # [groups, cols]
        # decided by lot where equal, before the sort, which keeps the order of equal ones
        lot = torch.randperm(means.numel(), generator=torch.Generator().manual_seed(seed % 2**63))
        order = lot[means.reshape(-1)[lot].argsort(descending=True, stable=True)]
        cost = sizes.repeat_interleave(means.shape[1])[order]
        chosen = torch.zeros(means.numel(), dtype=torch.bool)
        chosen[order[_fitting(cost, int(kept.sum()))]] = True
        blocks = torch.zeros_like(kept)
        for group, columns in zip(rows, chosen.view_as(means), strict=True):
            blocks[group] = columns
        return blocks


def groups_of_rows(kept: np.ndarray, most: int) -> list[list[int]]:
    """Cuts the rows that have weights into groups of at most ``most``, alike in their columns.

    Halves them along the second eigenvector of the normalised Laplacian of their cosines, and the
    halves again. Equal entries keep the rows' order, and of equal eigenvalues (blocks that share no
    column) the space is asked and no vector of it: so the same mask has the same groups, whatever
    basis a library gives.
    """
    waiting = [[int(row) for row in np.flatnonzero(kept.any(1))]]
    groups = []
    while waiting:
        rows = waiting.pop(0)
        if len(rows) <= most:
            groups.append(rows)
            continue
        unit = kept[rows].astype(np.float64)
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        alike = unit @ unit.T
        root = 1 / np.sqrt(alike.sum(1))
        second = np.round(_second_vector(root[:, None] * alike * root, 1 / root) * root, 9)
        second *= np.sign(second[np.flatnonzero(second)[0]]) if second.any() else 1.0
        order = np.argsort(second, kind="stable")
        half = len(rows) // 2
        waiting += [sorted(rows[i] for i in order[:half]), sorted(rows[i] for i in order[half:])]
    return sorted(groups)


def _second_vector(alike: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Finds the eigenvector of the second largest eigenvalue, of unit length.

    ``first`` points along that of the largest. Of several equal eigenvalues it is what their space
    has of one fixed vector, which treats no two rows alike.
    """
    values, vectors = np.linalg.eigh(alike)
    equal = np.abs(values - values[-2]) < EQUAL
    if equal.sum() == 1:
        found: np.ndarray = vectors[:, -2]
        return found
    fixed = np.arange(1, len(values) + 1) * GOLDEN % 1 - 0.5
    first = first / np.linalg.norm(first)
    fixed = fixed - first * (first @ fixed)
    found = vectors[:, equal] @ (vectors[:, equal].T @ fixed)
    return found / np.linalg.norm(found)


def _fitting(cost: Tensor, budget: int) -> Tensor:
    """Marks those, in order, whose sum stays within a budget; the first one in any case."""
    taken = cost.cumsum(0) <= budget
    taken[0] = True
    return taken


def _kept(scores: Tensor, kept: Tensor) -> Tensor:
    """Gives scores in double precision where weights are kept, 0 where not."""
    return torch.where(kept, scores, 0).double()


def _inner(mask: Mask, exclude: Iterable[str]) -> list[str]:
    """Names the layers that are coarsened: all but the last and those left out."""
    spared = select(exclude, mask, "exclude")
    return [name for name in list(mask.of_weights())[:-1] if name not in spared]


def _check_rows(task: Task, exclude: Sequence[str], what: str) -> None:
    mask = task.dense()
    if mask.biases:
        raise UserError(f"{what}, and pruner.biases=true prunes what is none: leave it out")
    names = _inner(mask, exclude)
    if not names:
        raise UserError(
            f"{what}: no layer is left: the last one stays as it is"
            f"{spares_others(exclude, 'exclude')}"
        )
    check_kinds(task, names, ("linear", "convolution"), what)
