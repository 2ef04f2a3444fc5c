"""Spanning trees and neural persistence: by hand, against another algorithm, and their laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.sparse.csgraph import minimum_spanning_tree

import small
from finished import Finished, chain_task, random_mask, unchanged
from lth_runner.allocate import Global
from lth_runner.probe import NeuralPersistence, SpanningTree
from lth_runner.probe.topology import neural_persistence
from lth_runner.score import Magnitude, TreesFirst
from lth_runner.search.ticket import Ticket
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.spanning_tree import spanning_tree, tree


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=stream(seed, "topology"), dtype=torch.float64)


def edges(weights):
    return sorted(spanning_tree(np.asarray(weights, dtype=float)).tolist())


def test_a_tree_worked_out_by_hand():
    # 0.9 and 0.8 join row 0 to both columns, 0.7 joins row 1; 0.6 would close a circle
    assert edges([[0.9, 0.8], [0.7, 0.6]]) == [0, 1, 2]
    # row 0 and column 0; row 1 and column 1; the heavier of the two edges between them
    assert edges([[0.9, 0.2], [0.3, 0.8]]) == [0, 2, 3]
    assert edges([[0.5, 0.1, 0.4]]) == [0, 1, 2]
    assert edges([[0.5], [0.1]]) == [0, 1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 9), (40, 13)])
def test_trees_weigh_as_much_as_another_algorithm_finds(shape):
    weights = normal(*shape).abs().numpy()
    found = spanning_tree(weights)
    rows, columns = shape
    assert len(set(found.tolist())) == rows + columns - 1
    graph = np.zeros((rows + columns, rows + columns))
    graph[:rows, rows:] = 10 - weights  # an edge of 0 would be none
    other = minimum_spanning_tree(graph)
    assert weights.reshape(-1)[found].sum() == pytest.approx(10 * len(found) - other.sum())


def test_pruned_edges_close_the_tree_where_nothing_else_does():
    weights = np.zeros((3, 4))
    weights[1, 2] = 5
    found = spanning_tree(weights)
    assert len(set(found.tolist())) == 6
    assert 1 * 4 + 2 in found


def test_persistence_worked_out_by_hand():
    # largest of the network: 2; the first layer's tree has w' of 1, .5, .25
    weights = {
        "a": torch.tensor([[2.0, -1.0], [0.5, 0.1]]),
        "b": torch.tensor([[1.0, 1.0]]),
    }
    found = neural_persistence(weights)
    assert found["a"] == pytest.approx(math.sqrt((1 + 0 + 0.25 + 0.5625) / 3))
    assert found["b"] == pytest.approx(math.sqrt((1 + 0.25 + 0.25) / 2))


def test_the_probe_reads_trained_weights_and_means_over_layers():
    task = chain_task(2, 2, 1 + 1)
    ended = {"0.weight": torch.eye(2), "2.weight": torch.ones(2, 2)}
    found = dict(NeuralPersistence()(task, [], Finished(Ticket(task.dense(), task.init()), ended)))
    # eye: two edges at 1 and one at 0, ones: three at 1; the component that stays adds 1 to each
    layers = {"0.weight": math.sqrt(2 / 3), "2.weight": math.sqrt(1 / 3)}
    assert found["neural_persistence_by_layer"] == pytest.approx(layers)
    assert found["neural_persistence"] == pytest.approx(sum(layers.values()) / 2)


def test_persistence_ignores_scale_signs_and_the_order_of_units():
    one = {"a": normal(6, 8), "b": normal(3, 6, seed=1)}
    first = neural_persistence(one)
    rows, columns = torch.randperm(6), torch.randperm(8)
    other = {"a": -7 * one["a"][rows][:, columns], "b": 7 * one["b"]}
    assert neural_persistence(other) == pytest.approx(first)


@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 1.0])
def test_persistence_stays_in_its_bounds(density):
    task = small.task(model=small.convolutional)
    weights = random_mask(task, density)(task.init())
    for name, value in neural_persistence({n: weights[n] for n in task.prunable}).items():
        vertices = len(weights[name]) + weights[name][0].numel()
        lowest, highest = (1 / (vertices - 1)) ** 0.5, (vertices / (vertices - 1)) ** 0.5
        assert lowest - 1e-12 <= value <= highest + 1e-12


def test_a_convolution_is_its_matrix():
    weight = normal(4, 3, 2, 2)
    assert tree(weight)[0].tolist() == tree(weight.reshape(4, 12))[0].tolist()
    assert len(tree(weight)[0]) == 4 + 12 - 1


def test_the_share_of_the_tree_that_a_mask_keeps_is_counted_by_hand():
    task = chain_task(2, 2)
    ended = {"0.weight": torch.tensor([[0.9, -0.8], [0.7, 0.6]])}
    dense = Finished(Ticket(task.dense(), task.init()), ended)
    mask = Mask({"0.weight": torch.tensor([[True, False], [True, True]])})
    found = dict(SpanningTree()(task, [dense], unchanged(mask, task.init())))
    assert found == {"spanning_tree_kept": 2 / 3, "spanning_tree_chance": 0.75}
    assert dict(SpanningTree()(task, [], dense)) == {
        "spanning_tree_kept": 1,
        "spanning_tree_chance": 1,
    }


def test_magnitude_pruning_keeps_more_of_the_trees_than_chance_and_random_masks_about_it():
    task = chain_task(60, 60, 60)
    dense = unchanged(task.dense(), task.init())
    large = Global()(Magnitude()(task, task.init(), task.dense()), 0.2, task.dense(), 0)
    found = dict(SpanningTree()(task, [dense], unchanged(large, task.init())))
    assert found["spanning_tree_kept"] > 0.9
    assert found["spanning_tree_chance"] == pytest.approx(0.2, abs=0.02)
    by_chance = dict(SpanningTree()(task, [dense], unchanged(random_mask(task, 0.2), task.init())))
    assert by_chance["spanning_tree_kept"] == pytest.approx(0.2, abs=0.1)


def test_the_trees_are_found_once_and_kept():
    task = small.task()
    dense = unchanged(task.dense(), task.init())
    dict(SpanningTree()(task, [], dense))
    [trees] = dense.kept.values()
    assert all(value.dtype == torch.int64 for value in trees.values())
    trees |= {name: value[:1] for name, value in trees.items()}
    mask = random_mask(task, 0.5)
    found = dict(SpanningTree()(task, [dense], unchanged(mask, task.init())))
    assert found["spanning_tree_kept"] in (0, 0.5, 1)  # of the two edges left


def test_a_search_without_a_dense_training_has_no_trees_to_compare_with():
    task = small.task()
    assert not dict(SpanningTree()(task, [], unchanged(random_mask(task, 0.3), task.init())))


def test_trees_are_kept_before_larger_weights_and_all_else_by_size() -> None:
    weights = {
        "a": torch.tensor([[0.9, 0.8, 0.85], [0.7, 0.6, 0.1]]),
        "b": torch.full((1, 4), 0.01),
    }
    mask = Mask({name: torch.ones_like(value, dtype=torch.bool) for name, value in weights.items()})
    scores = TreesFirst()(None, weights, mask)  # type: ignore[arg-type]  # no task is asked
    kept = Global()(scores, 0.8, mask, 0)
    assert kept["a"].tolist() == [[True, True, True], [True, False, False]]  # 0.7 before 0.6
    assert kept["b"].all()
    fewer = Global()(scores, 0.4, mask, 0)  # four: fewer than the trees' eight edges
    assert fewer["a"].tolist() == [[True, True, True], [True, False, False]]


def test_pruned_weights_are_in_no_tree_where_others_are() -> None:
    weights = {"a": torch.tensor([[5.0, 0.2], [0.3, 0.4]])}
    mask = Mask({"a": torch.tensor([[False, True], [True, True]])})
    scores = TreesFirst()(None, weights, mask)["a"]  # type: ignore[arg-type]
    assert (scores > 1).tolist() == [[True, True], [True, True]]  # 5.0 by itself, three as the tree
    assert scores[0, 1] < scores[1, 0] < scores[1, 1]
