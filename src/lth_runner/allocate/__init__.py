"""Given scores and a budget, which weights stay: exact counts, ties broken by seed."""

from lth_runner.allocate.densities import ErdosRenyi, Proportional, Uniform
from lth_runner.allocate.keep import Allocate, collapsed, count, keep_top
from lth_runner.allocate.smart_ratio import SmartRatio
from lth_runner.allocate.threshold import Deviation, Global, LayerWise

__all__ = [
    "Allocate",
    "Deviation",
    "ErdosRenyi",
    "Global",
    "LayerWise",
    "Proportional",
    "SmartRatio",
    "Uniform",
    "collapsed",
    "count",
    "keep_top",
]
