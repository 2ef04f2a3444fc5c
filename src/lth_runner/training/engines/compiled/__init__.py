"""Linear layers in compiled loops, with the C code beside the module that calls it."""

from lth_runner.training.engines.compiled.batches import VECTOR, by_feature, gather, padded
from lth_runner.training.engines.compiled.fused_step import can_fuse_step, fused_step
from lth_runner.training.engines.compiled.library import SAMPLES, library
from lth_runner.training.engines.compiled.surviving import SurvivingLinear, Survivors
from lth_runner.training.engines.compiled.whole import WholeLinear

__all__ = [
    "SAMPLES",
    "VECTOR",
    "SurvivingLinear",
    "Survivors",
    "WholeLinear",
    "by_feature",
    "can_fuse_step",
    "fused_step",
    "gather",
    "library",
    "padded",
]
