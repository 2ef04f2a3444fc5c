"""Shrinking cuts dead channels, units and heads out of a masked network."""

from lth_runner.export.shrink.shrinking import Shrunk, shrink

__all__ = ["Shrunk", "shrink"]
