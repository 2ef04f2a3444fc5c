"""Given scores and a budget, which weights stay: exact counts, ties broken by seed."""

from lth_runner.allocate.channels import Channels, channels
from lth_runner.allocate.densities import ErdosRenyi, Proportional, Uniform
from lth_runner.allocate.keep import Allocate, collapsed, count, keep_top
from lth_runner.allocate.n_of_m import NOfM
from lth_runner.allocate.smart_ratio import SmartRatio
from lth_runner.allocate.threshold import Deviation, Global, LayerWise

__all__ = [
    "Allocate",
    "Channels",
    "Deviation",
    "ErdosRenyi",
    "Global",
    "LayerWise",
    "NOfM",
    "Proportional",
    "SmartRatio",
    "Uniform",
    "channels",
    "collapsed",
    "count",
    "keep_top",
]
