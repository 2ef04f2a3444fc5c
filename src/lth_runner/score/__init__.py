"""Scores say how much each prunable weight matters; for every score, larger means keep."""

from lth_runner.score.channel import FilterNorm, NormScale
from lth_runner.score.concrete import Concrete
from lth_runner.score.criteria import MaskCriterion
from lth_runner.score.curvature import Obd
from lth_runner.score.flow import Synflow
from lth_runner.score.gaussian import Lexicographic, MeanSquare, SignalToNoise
from lth_runner.score.gradient import Force, GradientMagnitude, Grasp, GraspIterated, Snip
from lth_runner.score.magnitude import Magnitude, Random
from lth_runner.score.meta import Prospr
from lth_runner.score.score import Score, Scores
from lth_runner.score.spanning_tree import TreesFirst
from lth_runner.score.wanda import Wanda

__all__ = [
    "Concrete",
    "FilterNorm",
    "Force",
    "GradientMagnitude",
    "Grasp",
    "GraspIterated",
    "Lexicographic",
    "Magnitude",
    "MaskCriterion",
    "MeanSquare",
    "NormScale",
    "Obd",
    "Prospr",
    "Random",
    "Score",
    "Scores",
    "SignalToNoise",
    "Snip",
    "Synflow",
    "TreesFirst",
    "Wanda",
]
