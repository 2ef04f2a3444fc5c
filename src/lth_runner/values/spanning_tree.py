"""A layer as a bipartite graph of its inputs and outputs, and its maximum spanning tree."""

from __future__ import annotations

import numpy as np
from torch import Tensor


def tree(weight: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Finds a layer's maximum spanning tree of |w|: its edges' flat positions, and their |w|."""
    matrix = weight.detach().cpu().double().abs().flatten(1).numpy()
    edges = spanning_tree(matrix)
    return edges, matrix.reshape(-1)[edges]


def spanning_tree(weights: np.ndarray) -> np.ndarray:
    """Finds a maximum spanning tree of the complete bipartite graph of rows and columns.

    ``weights`` [rows, columns] are at least 0, and a weight of 0 is an edge like any other.
    Returns rows + columns - 1 flat positions. Prim's algorithm on dense arrays: O((rows +
    columns)^2) in time, with one vectorised step for each vertex.
    """
    num_rows, num_columns = weights.shape
    from_column = np.ascontiguousarray(weights.T)
    num = num_rows + num_columns
    strongest = np.full(num, -1.0)  # the heaviest edge into the tree; -1: none yet
    link = np.zeros(num, dtype=np.int64)  # that edge's position
    outside = np.ones(num, dtype=bool)
    edges = np.empty(num - 1, dtype=np.int64)
    vertex = 0
    for step in range(num - 1):
        outside[vertex], strongest[vertex] = False, -np.inf
        if vertex < num_rows:
            others, weight = slice(num_rows, num), weights[vertex]
            position = vertex * num_columns + np.arange(num_columns)
        else:
            column = vertex - num_rows
            others, weight = slice(0, num_rows), from_column[column]
            position = np.arange(num_rows) * num_columns + column
        better = outside[others] & (weight > strongest[others])
        np.copyto(strongest[others], weight, where=better)
        np.copyto(link[others], position, where=better)
        vertex = int(strongest.argmax())
        edges[step] = link[vertex]
    return edges
