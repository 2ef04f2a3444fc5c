"""Engines do trainings one by one, packed as one network, or recorded as a CUDA graph."""

from lth_runner.training.engines.engine import Engine, Together
from lth_runner.training.engines.packed import Packed, Sparse
from lth_runner.training.engines.sequential import Sequential

__all__ = ["Engine", "Packed", "Sequential", "Sparse", "Together"]
