"""Target densities, one per round of pruning, or per iteration of scoring."""

from lth_runner.schedule.geometric import Geometric
from lth_runner.schedule.iterations import Iterations
from lth_runner.schedule.schedule import Schedule

__all__ = ["Geometric", "Iterations", "Schedule"]
