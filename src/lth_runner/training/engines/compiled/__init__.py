"""Linear layers in compiled loops: C beside the module that calls it."""

from lth_runner.training.engines.compiled.batches import VECTOR, by_feature, gather, padded
from lth_runner.training.engines.compiled.descending import descend, descends
from lth_runner.training.engines.compiled.library import SAMPLES, library
from lth_runner.training.engines.compiled.surviving import SurvivingLinear, Survivors
from lth_runner.training.engines.compiled.whole import WholeLinear

__all__ = [
    "SAMPLES", "VECTOR", "SurvivingLinear", "Survivors", "WholeLinear", "by_feature", "descend",
    "descends", "gather", "library", "padded",
]  # fmt: skip
