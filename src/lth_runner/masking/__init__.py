"""Maskings say how the mask lives inside one training."""

from lth_runner.masking.compact import Compact
from lth_runner.masking.continuous import Continuous, Restarting
from lth_runner.masking.early_bird_stop import EarlyBirdStop
from lth_runner.masking.edge_popup import EdgePopup, MultiPrize
from lth_runner.masking.gem_miner import GemMiner
from lth_runner.masking.gradual import Gradual
from lth_runner.masking.live import LiveMask, Masking, check, check_way_back
from lth_runner.masking.regrow import Rigl, Set
from lth_runner.masking.scale_penalty import ScalePenalty
from lth_runner.masking.static import Static
from lth_runner.masking.straight_through import SrSte, StraightThrough
from lth_runner.masking.supermask import Supermask
from lth_runner.masking.untrained import with_measured_statistics
from lth_runner.masking.updates import Updates

__all__ = [
    "Compact",
    "Continuous",
    "EarlyBirdStop",
    "EdgePopup",
    "GemMiner",
    "Gradual",
    "LiveMask",
    "Masking",
    "MultiPrize",
    "Restarting",
    "Rigl",
    "ScalePenalty",
    "Set",
    "SrSte",
    "Static",
    "StraightThrough",
    "Supermask",
    "Updates",
    "check",
    "check_way_back",
    "with_measured_statistics",
]
