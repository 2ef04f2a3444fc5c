"""What chance leaves of a mask whose rows and columns keep as many weights as they do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

EXACT = 1e-4  # of the counts, in weights
MOST_STEPS = 200
EDGE = 0.01  # weights that an empty row starts the search with, and that a full one lacks

Numbers = NDArray[np.float64]


def kept_chances(mask: NDArray[np.bool_]) -> Numbers:
    """Computes the chance of each weight to be kept, given how many each row and column keeps.

    Rows are outputs, columns inputs (of a convolution: inputs at one place of the kernel). Of all
    distributions with these counts as means that of the largest entropy,
    p_ij = 1 / (1 + exp(-a_i - b_j)); a and b minimise a convex function. It stands for the uniform
    one over all masks with exactly these counts (Barvinok and Hartigan, Random Structures and
    Algorithms, 2013, arXiv:0910.2477), which it comes near in large layers. A vector, or a layer of
    one row or column, is conditioned on its density alone: the counts would leave it no choice.
    """
    table = mask.reshape(len(mask), -1) if mask.ndim > 1 else mask.reshape(1, -1)
    if min(table.shape) < 2 or table.all() or not table.any():
        return np.full(mask.shape, float(mask.mean()))
    rows, row_of, num_rows = _counts(table.sum(axis=1))
    columns, column_of, num_columns = _counts(table.sum(axis=0))
    num = len(rows)

    def loss(x: Numbers) -> tuple[float, Numbers]:
        sums = x[:num, None] + x[num:]
        chances = expit(sums)
        value = num_rows @ np.logaddexp(0.0, sums) @ num_columns
        value -= (num_rows * rows) @ x[:num] + (num_columns * columns) @ x[num:]
        over = [
            num_rows * (chances @ num_columns - rows),
            num_columns * (num_rows @ chances - columns),
        ]
        return float(value), np.concatenate(over)

    def curvature(x: Numbers) -> Numbers:
        chances = expit(x[:num, None] + x[num:])
        of = num_rows[:, None] * chances * (1 - chances) * num_columns
        return np.block([[np.diag(of.sum(axis=1)), of], [of.T, np.diag(of.sum(axis=0))]])

    half = logit(table.mean()) / 2
    start = [_odds(rows, table.shape[1]) - half, _odds(columns, table.shape[0]) - half]
    found = minimize(loss, np.concatenate(start), jac=True, hess=curvature, method="trust-ncg",
                     options={"gtol": EXACT, "maxiter": MOST_STEPS}).x  # fmt: skip
    chances = expit(found[:num, None] + found[num:])
    return chances[np.ix_(row_of, column_of)].reshape(mask.shape)


def _counts(sums: NDArray[np.int_]) -> tuple[Numbers, NDArray[np.intp], Numbers]:
    """Lists the sums that there are, which each one is, and how many have it: those are alike."""
    found, place = np.unique(sums, return_inverse=True)
    return found.astype(float), place, np.bincount(place).astype(float)


def _odds(sums: Numbers, width: int) -> Numbers:
    return logit(np.clip(sums, EDGE, width - EDGE) / width)
