"""Allocations choose, by scores and a budget, which weights stay: exact counts, ties by seed."""

from lth_runner.allocate.blocks import Blocks
from lth_runner.allocate.channels import Channels, channels
from lth_runner.allocate.coarsen import Coarsen, Refill, Regroup
from lth_runner.allocate.densities import ErdosRenyi, Proportional, Uniform
from lth_runner.allocate.keep import Allocate, count, empty_layers, keep_top
from lth_runner.allocate.n_of_m import NOfM
from lth_runner.allocate.rows import Rows
from lth_runner.allocate.smart_ratio import SmartRatio
from lth_runner.allocate.threshold import Deviation, Global, LayerWise

__all__ = [
    "Allocate",
    "Blocks",
    "Channels",
    "Coarsen",
    "Deviation",
    "ErdosRenyi",
    "Global",
    "LayerWise",
    "NOfM",
    "Proportional",
    "Refill",
    "Regroup",
    "Rows",
    "SmartRatio",
    "Uniform",
    "channels",
    "count",
    "empty_layers",
    "keep_top",
]
