"""The score that spares what holds a layer together as a graph."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from lth_runner.problem.task import Task
from lth_runner.score.magnitude import Magnitude
from lth_runner.score.score import Score, Scores
from lth_runner.values.mask import Mask
from lth_runner.values.spanning_tree import tree
from lth_runner.values.state import State


@dataclass(frozen=True)
class TreesFirst:
    """Scores weights by another score, and those of the layers' maximum spanning trees above all.

    A layer is the complete bipartite graph of its inputs and outputs, a convolution that of its
    matrix [outputs, inputs / groups * height * width], with m * |theta| on its edges; its tree has
    inputs + outputs - 1 of them, all that zeroth-dimensional homology sees. Edges of trees are
    ranked among each other by the other score: a budget below their number cuts them too.
    Biases are in no tree.
    T-IMP, with ``score`` the magnitude: Balwani & Krzyston, ICML Workshop TAG-ML 2022, arXiv
    2206.06563.
    """

    score: Score = field(default_factory=Magnitude)

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        # float64: what is added leaves the order of what it is added to
        plain = {n: s.double() for n, s in self.score(task, weights, mask).items() if n in mask}
        ends = [(float(s.min()), float(s.max())) for s in plain.values() if s.numel()]
        above = 1.0 + max(high for _, high in ends) - min(low for low, _ in ends)
        masked = mask({name: weights[name] for name in mask})
        for name in mask.of_weights():
            edges = torch.from_numpy(tree(masked[name])[0])
            plain[name].view(-1)[edges] += above
        return plain
