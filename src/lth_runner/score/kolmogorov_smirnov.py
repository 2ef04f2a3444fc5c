"""How far training has moved the distribution of a row's values, by Kolmogorov and Smirnov."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lth_runner.values.errors import UserError

CORRECTIONS = ("none", "bonferroni", "bh")
AT_ONCE = 2**18  # values of the rows that are sorted together: they stay in the cache


def statistics(before: Tensor, after: Tensor) -> Tensor:
    """Computes D_j = sup_x |F_j(x) - G_j(x)| of each row, two samples of one size.

    F_j and G_j are the empirical distributions of row j of ``before`` and ``after``, [rows, d],
    in fp32; the answer is float64, [rows]. Equal values are one step of both, as they must be.
    """
    before, after = before.detach().cpu().float(), after.detach().cpu().float()
    found = torch.zeros(len(before), dtype=torch.float64)
    moved = (before != after).any(1).nonzero()[:, 0]
    with _one_thread():
        for rows in moved.split(max(1, AT_ONCE // max(1, before.shape[1]))):
            found[rows] = _largest_difference(before[rows], after[rows])
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """Has torch compute on one thread.

    After steps as short as these, several threads wait for each other longer than they work where
    other work has some of the cores.
    """
    num = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num)


def _largest_difference(before: Tensor, after: Tensor) -> Tensor:
    num = before.shape[1]
    keys = torch.cat([before, after], 1).double().add_(0.0)  # no -0.0
    bits = keys.view(torch.int64)
    bits[:, num:] |= 1  # whose it is, where a float32 leaves 29 bits of a double free
    keys.numpy().sort(axis=1)  # by vectors, where torch's sort brings places that nobody asks for
    heights = (1 - 2 * (bits & 1)).cumsum(1, dtype=torch.int16 if num < 2**15 else torch.int64)
    # between equal values neither distribution has a height yet
    heights[:, :-1].masked_fill_((bits[:, :-1] >> 1) == (bits[:, 1:] >> 1), 0)
    return heights.abs().amax(1).double() / num


def p_values(statistics: Tensor, num: int) -> Tensor:
    """Computes P(D >= D_j) for two samples of ``num`` values each from one continuous law.

    Exact, by reflection: 2 sum_i (-1)^(i+1) C(2d, d - i k) / C(2d, d) with k = d D_j and
    i = 1, 2, ... while i k <= d (Gnedenko & Korolyuk, 1951). The two samples here are the same
    coordinates before and after, and not independent: the values rank and set a threshold, and
    are no error rates.
    """
    heights = (statistics * num).round().long()
    kinds, place = heights.unique(return_inverse=True)
    return torch.tensor([_tail(int(k), num) for k in kinds], dtype=torch.float64)[place]


def _tail(height: int, num: int) -> float:
    if height <= 0:
        return 1.0
    total = math.fsum(_terms(height, num))
    return min(1.0, max(0.0, total))


def _terms(height: int, num: int) -> Iterator[float]:
    whole = 2 * math.lgamma(num + 1)
    for i in range(1, num // height + 1):
        apart = i * height
        log = whole - math.lgamma(num - apart + 1) - math.lgamma(num + apart + 1)
        yield (2.0 if i % 2 else -2.0) * math.exp(log)


def threshold(alpha: float, num: int) -> float:
    """Computes tau(alpha) = sqrt(-ln(alpha / 2) / 2) sqrt(2 / d), which D exceeds by chance alpha.

    The limit for large d, two samples of ``num`` values each.
    """
    return math.sqrt(-math.log(alpha / 2) / num)


def significant(p: Tensor, alpha: float, correction: str) -> Tensor:
    """Says which rows have moved: p < alpha, or as much after a correction for their number.

    ``bonferroni``: p < alpha / rows; ``bh``: those up to the last p_(i) <= i alpha / rows
    (Benjamini & Hochberg, 1995). Raises UserError for an ``alpha`` outside (0, 1).
    """
    if correction == "none":
        return p < alpha
    if correction == "bonferroni":
        return p < alpha / len(p)
    ordered, _ = p.sort()
    line = torch.arange(1, len(p) + 1) * (alpha / len(p))
    below = (ordered <= line).nonzero()[:, 0]
    return p <= ordered[below[-1]] if len(below) else torch.zeros_like(p, dtype=torch.bool)


def check_level(alpha: float, key: str) -> None:
    """Raises UserError for a level outside (0, 1)."""
    if isinstance(alpha, bool) or not 0 < alpha < 1:
        raise UserError(f"{key}={alpha} must lie between 0 and 1: 0.05, say")
