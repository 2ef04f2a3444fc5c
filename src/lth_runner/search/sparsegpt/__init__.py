"""SparseGPT: masks and new weights, layer by layer, so that layers answer as they did."""

from lth_runner.search.sparsegpt.solver import SparseGPT

__all__ = ["SparseGPT"]
