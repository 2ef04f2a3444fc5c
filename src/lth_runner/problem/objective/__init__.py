"""Objectives say what a network is to learn and how well it has learned it."""

from lth_runner.problem.objective.confusion import linearised
from lth_runner.problem.objective.correlation import Correlation
from lth_runner.problem.objective.cross_entropy import CrossEntropy
from lth_runner.problem.objective.multi_label import MultiLabel
from lth_runner.problem.objective.next_token import NextToken
from lth_runner.problem.objective.objective import (
    Averaging,
    BySample,
    Objective,
    OfTheWhole,
    Separable,
    smoothed,
)
from lth_runner.problem.objective.span import Span
from lth_runner.problem.objective.squared_error import SquaredError
from lth_runner.problem.objective.tagging import Tagging
from lth_runner.values.measure import Measure

__all__ = [
    "Averaging",
    "BySample",
    "Correlation",
    "CrossEntropy",
    "Measure",
    "MultiLabel",
    "NextToken",
    "Objective",
    "OfTheWhole",
    "Separable",
    "Span",
    "SquaredError",
    "Tagging",
    "linearised",
    "smoothed",
]
