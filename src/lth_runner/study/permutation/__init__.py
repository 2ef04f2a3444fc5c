"""Permutations of a network's units that leave what it computes as it is."""

from lth_runner.study.permutation.groups import Group, Order, Part, Place
from lth_runner.study.permutation.matching import Matching
from lth_runner.study.permutation.symmetries import Symmetries

__all__ = ["Group", "Matching", "Order", "Part", "Place", "Symmetries"]
