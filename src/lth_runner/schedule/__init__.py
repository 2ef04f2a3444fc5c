"""Schedules give the target densities, one per round of pruning or iteration of scoring."""

from lth_runner.schedule.geometric import Geometric, at_once, rate_to_reach
from lth_runner.schedule.iterations import Iterations
from lth_runner.schedule.linear import Linear
from lth_runner.schedule.schedule import Schedule

__all__ = ["Geometric", "Iterations", "Linear", "Schedule", "at_once", "rate_to_reach"]
