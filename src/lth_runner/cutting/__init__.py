"""Dead channels, units and heads are found in a masked network and cut out of it."""

from lth_runner.cutting.in_training import NeverHeard, shrink_in_training
from lth_runner.cutting.shrinking import Shrunk, shrink

__all__ = ["NeverHeard", "Shrunk", "shrink", "shrink_in_training"]
