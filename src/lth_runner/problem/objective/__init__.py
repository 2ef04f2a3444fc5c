"""Objectives say what a network is to learn and how well it has learned it."""

from lth_runner.problem.objective.cross_entropy import CrossEntropy
from lth_runner.problem.objective.multi_label import MultiLabel
from lth_runner.problem.objective.next_token import NextToken
from lth_runner.problem.objective.objective import BySample, Objective, Separable, smoothed
from lth_runner.problem.objective.squared_error import SquaredError
from lth_runner.values.measure import Measure

__all__ = [
    "BySample",
    "CrossEntropy",
    "Measure",
    "MultiLabel",
    "NextToken",
    "Objective",
    "Separable",
    "SquaredError",
    "smoothed",
]
