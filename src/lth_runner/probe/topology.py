"""Layers as graphs: neural persistence and maximum spanning trees."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch

from lth_runner.probe.probe import Value
from lth_runner.probe.reference import dense_training
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.spanning_tree import tree
from lth_runner.values.state import State


@dataclass(frozen=True)
class NeuralPersistence:
    """Measures the normalised zeroth-dimensional persistence of each layer, and the mean of them.

    A layer at the end of training is a complete bipartite graph of n vertices, its inputs and
    outputs; its edges enter in order of falling w' = |w| / max |w| of the whole network.
    Components merge along the maximum spanning tree T: NP = sqrt(1 + sum over T of (1 - w')^2),
    the 1 for the component that never merges; divided by sqrt(n - 1). It may exceed 1 by that one
    component. A pruned weight is an edge of w' = 0, which equals a missing one. A convolution is
    its matrix [outputs, inputs / groups * height * width].
    Rieck et al., ICLR 2019, arXiv 1812.09764.
    """

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        weights = trained.weights
        layers = neural_persistence({name: weights[name] for name in trained.mask.of_weights()})
        yield "neural_persistence", fmean(layers.values())
        yield "neural_persistence_by_layer", layers


@dataclass(frozen=True)
class SpanningTree:
    """Measures what the mask keeps of the trained dense network's maximum spanning trees of |w|.

    One tree a layer, of inputs + outputs - 1 edges: all that zeroth-dimensional topology sees.
    ``spanning_tree_chance`` is what random masks of the same densities by layer expect.
    Balwani & Krzyston, ICML Workshop TAG-ML 2022, arXiv 2206.06563.
    """

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        dense = dense_training(past, trained)
        if dense is None:
            return
        trees = dense.derived("spanning-trees", lambda: _trees(dense))
        total = sum(map(len, trees.values()))
        kept = sum(int(trained.mask[n].flatten()[edges].sum()) for n, edges in trees.items())
        density = trained.mask.layer_density()
        yield "spanning_tree_kept", kept / total
        yield "spanning_tree_chance", sum(len(t) * density[n] for n, t in trees.items()) / total


def _trees(trained: Trained) -> State:
    weights = trained.weights
    return {name: torch.from_numpy(tree(weights[name])[0]) for name in trained.mask.of_weights()}


def neural_persistence(weights: State) -> dict[str, float]:
    """Computes NP / sqrt(n - 1) of each layer, weights normalised by the largest of all layers."""
    largest = max(float(weight.abs().max()) for weight in weights.values()) or 1.0
    found = {}
    for name, weight in weights.items():
        merges = 1 - tree(weight)[1] / largest
        found[name] = math.sqrt((1 + float(np.square(merges).sum())) / len(merges))
    return found
