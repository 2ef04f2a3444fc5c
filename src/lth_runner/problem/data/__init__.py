"""The data: a value made of tensors (``Data``), and the sources that fill it."""

from lth_runner.problem.data.datasets import digits, synthetic
from lth_runner.problem.data.folder import imagefolder
from lth_runner.problem.data.published import torchvision_dataset
from lth_runner.problem.data.splits import Split
from lth_runner.problem.data.stream import Augment, Stream
from lth_runner.problem.data.tensors import Data

__all__ = [
    "Augment",
    "Data",
    "Split",
    "Stream",
    "digits",
    "imagefolder",
    "synthetic",
    "torchvision_dataset",
]
