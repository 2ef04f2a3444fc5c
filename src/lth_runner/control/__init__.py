"""Controls are arms beside the ticket; each differs from it in exactly what its name says."""

from lth_runner.control.coarsened import Coarsened
from lth_runner.control.control import Control, check, check_beside, possible
from lth_runner.control.decisions import Invert, Inverted, RandomData
from lth_runner.control.layers import ShuffledLayers
from lth_runner.control.masks import Even, Random, RescaledRandom, Shuffle, permuted, unpruned
from lth_runner.control.ratios import EvenRatios, ShuffledRatios, Targeted
from lth_runner.control.rows import FrequentRows, LowestRows, RandomRows, TemplateRows
from lth_runner.control.starts import Late, Partial
from lth_runner.control.weights import (
    MagnitudesOnly,
    Noise,
    Reinit,
    ShuffledWeights,
    SignsOnly,
    random_signs,
    signed_constant,
)

__all__ = [
    "Coarsened",
    "Control",
    "Even",
    "EvenRatios",
    "FrequentRows",
    "Invert",
    "Inverted",
    "Late",
    "LowestRows",
    "MagnitudesOnly",
    "Noise",
    "Partial",
    "Random",
    "RandomData",
    "RandomRows",
    "Reinit",
    "RescaledRandom",
    "Shuffle",
    "ShuffledLayers",
    "ShuffledRatios",
    "ShuffledWeights",
    "SignsOnly",
    "Targeted",
    "TemplateRows",
    "check",
    "check_beside",
    "permuted",
    "possible",
    "random_signs",
    "signed_constant",
    "unpruned",
]
