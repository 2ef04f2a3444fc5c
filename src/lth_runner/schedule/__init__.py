"""Schedules give the target densities, one per round of pruning or iteration of scoring."""

from lth_runner.schedule.geometric import Geometric
from lth_runner.schedule.iterations import Iterations
from lth_runner.schedule.schedule import Schedule

__all__ = ["Geometric", "Iterations", "Schedule"]
