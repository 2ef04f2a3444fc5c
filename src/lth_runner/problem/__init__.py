"""What is to be learned, from where, in which numbers: a task, and the parts that it is made of."""

from lth_runner.problem.coordinates import Coordinates, Delta
from lth_runner.problem.covers import Covers
from lth_runner.problem.gaussian import Gaussian
from lth_runner.problem.low_rank import LowRank
from lth_runner.problem.objective import (
    Correlation,
    CrossEntropy,
    Measure,
    MultiLabel,
    NextToken,
    Objective,
    Span,
    SquaredError,
    Tagging,
)
from lth_runner.problem.origin import File, ModelsOwn, Origin
from lth_runner.problem.pretrained import Pretrained
from lth_runner.problem.task import Task

__all__ = [
    "Coordinates",
    "Correlation",
    "Covers",
    "CrossEntropy",
    "Delta",
    "File",
    "Gaussian",
    "LowRank",
    "Measure",
    "ModelsOwn",
    "MultiLabel",
    "NextToken",
    "Objective",
    "Origin",
    "Pretrained",
    "Span",
    "SquaredError",
    "Tagging",
    "Task",
]
