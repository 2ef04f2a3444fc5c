"""Linear layers in compiled loops: C beside the module that calls it."""

from lth_runner.compiled.batches import VECTOR, by_feature, gather, padded
from lth_runner.compiled.descending import descend, descends
from lth_runner.compiled.library import SAMPLES, library
from lth_runner.compiled.surviving import SurvivingLinear, Survivors
from lth_runner.compiled.whole import WholeLinear

__all__ = [
    "SAMPLES", "VECTOR", "SurvivingLinear", "Survivors", "WholeLinear", "by_feature", "descend",
    "descends", "gather", "library", "padded",
]  # fmt: skip
