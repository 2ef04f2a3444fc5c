"""Masks against the dense network, through time, and the paths that they leave."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

import small
from finished import Finished, chain_task, random_mask, unchanged, vectors
from lth_runner.control import permuted
from lth_runner.masking import Static
from lth_runner.probe import DenseOverlap, EffectiveDensity, MaskDistance
from lth_runner.probe.paths import on_paths
from lth_runner.problem import models
from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training.job import Job, Slot
from lth_runner.training.pace import Pace
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.steps import Clock


def by_definition(mask: Mask) -> Mask:
    """Live weights of a chain of linear layers, by which units are reached from both sides."""
    kept = [value.double() for value in mask.values()]
    reached = [torch.ones(kept[0].shape[1])]
    for layer in kept:
        reached.append((layer @ reached[-1].double() > 0).double())
    needed = [torch.ones(len(kept[-1]))]
    for layer in reversed(kept):
        needed.insert(0, (layer.T @ needed[0].double() > 0).double())
    return Mask(
        {
            name: mask[name] & (needed[i + 1][:, None] > 0) & (reached[i][None] > 0)
            for i, name in enumerate(mask)
        }
    )


def test_dead_weights_are_those_found_by_hand():
    task = chain_task(2, 3, 2)
    mask = Mask(
        {  # unit 0 leads nowhere, unit 1 is fed by nothing, unit 2 is alive
            "0.weight": torch.tensor([[True, True], [False, False], [True, False]]),
            "2.weight": torch.tensor([[False, True, True], [False, True, False]]),
        }
    )
    found = dict(EffectiveDensity()(task, [], unchanged(mask, task.init())))
    assert found["num_dead_weights"] == 4
    assert found["effective_density"] == pytest.approx(2 / 12)
    assert found["effective_density_by_layer"] == {"0.weight": 1 / 6, "2.weight": 1 / 6}


@pytest.mark.parametrize("density", [0.02, 0.1, 0.3, 1.0])
@pytest.mark.parametrize("bias", [False, True])
def test_liveness_is_reachability_from_both_sides_and_biases_feed_nothing(density, bias):
    task = chain_task(9, 12, 12, 12, 3, bias=bias)
    mask = random_mask(task, density, seed=3)
    assert on_paths(task, mask) == by_definition(mask)


def images(*shape: int) -> Data:
    inputs, labels = vectors(size=math.prod(shape), num_classes=4, num=16).train
    split = inputs.view(-1, *shape), labels
    return Data.from_tensors(split, split, validation=0)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (models.lenet5, (1, 28, 28)),
        (lambda **of: models.conv(depth=2, **of), (3, 8, 8)),
        (lambda **of: models.resnet_cifar(depth=20, norm="group", **of), (3, 16, 16)),
    ],
    ids=["lenet5", "conv2", "resnet20"],
)
def test_every_weight_of_a_shipped_dense_network_is_alive(model, shape):
    task = Task(lambda: model(shape=shape, num_classes=4), images(*shape))
    assert on_paths(task, task.dense()) == task.dense()


def test_of_a_filter_on_a_single_pixel_the_middle_alone_is_alive():
    task = Task(lambda: models.vgg(depth=11, shape=(3, 16, 16), num_classes=4), images(3, 16, 16))
    density = on_paths(task, task.dense()).layer_density()
    assert {n: d for n, d in density.items() if d < 1} == {
        "conv7.weight": 1 / 9,
        "conv8.weight": 1 / 9,
    }


def test_a_shortcut_keeps_alive_what_comes_before_an_empty_layer():
    task = Task(Residual, vectors(size=3, num_classes=2))
    names = list(task.dense())
    mask = Mask({**task.dense(), names[1]: torch.zeros(3, 3, dtype=torch.bool)})
    alive = on_paths(task, mask)
    assert [int(alive[name].sum()) for name in names] == [9, 0, 6]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.out = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 2)

    def forward(self, x):
        x = torch.relu(self.one(x))
        return self.out(x + self.two(x))


def test_saturating_activations_and_trained_norms_cut_no_path():
    def model():
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))

    task = Task(model, vectors(size=4, num_classes=3))
    assert on_paths(task, task.dense()) == task.dense()


class Scaled(nn.Module):
    """Multiplies each unit, and all answers, by a number that is trained."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)
        self.scale, self.gain = nn.Parameter(torch.rand(6)), nn.Parameter(torch.tensor(0.1))

    def forward(self, x):
        return self.gain * self.two(self.scale * self.one(x).relu())


def test_scales_of_a_networks_own_cut_no_path():
    task = Task(Scaled, vectors(size=4, num_classes=3))
    assert on_paths(task, task.dense()) == task.dense()


@pytest.mark.slow
def test_neither_all_paths_nor_a_single_one_leaves_the_range_of_numbers():
    task = chain_task(*[2] * 1031)
    *_, cut, _ = task.dense()
    many = Mask({**task.dense(), cut: torch.tensor([[True, False], [True, True]])})
    assert on_paths(task, many) == many  # 2^1030 paths, more than float64 can count
    line = Mask({name: torch.tensor([[True, False], [False, False]]) for name in task.dense()})
    assert on_paths(task, line) == line


def test_live_weights_are_a_part_of_the_mask_and_all_of_themselves():
    task = small.task(model=small.convolutional)
    mask = random_mask(task, 0.03)
    alive = on_paths(task, mask)
    assert alive <= mask
    assert alive != mask
    assert on_paths(task, alive) == alive


# --- against the dense network


def test_the_overlap_with_the_largest_dense_weights_is_counted_by_hand():
    task = chain_task(2, 2)
    ended = {"0.weight": torch.tensor([[0.9, -0.8], [0.1, 0.2]])}
    dense = Finished(Ticket(task.dense(), task.init()), ended)
    mask = Mask({"0.weight": torch.tensor([[True, False], [True, False]])})
    found = dict(DenseOverlap()(task, [dense], unchanged(mask, task.init())))
    assert found == {"mask_overlap_dense_magnitude": 1 / 3}
    assert dict(DenseOverlap()(task, [], dense)) == {"mask_overlap_dense_magnitude": 1}


def test_random_masks_overlap_by_chance():
    task = chain_task(60, 60, 60)
    dense = unchanged(task.dense(), task.init())
    mask = permuted(random_mask(task, 0.2), 1)
    [(_, value)] = DenseOverlap()(task, [dense], unchanged(mask, task.init()))
    assert value == pytest.approx(0.2 / 1.8, abs=0.02)


# --- from epoch to epoch


def test_distances_from_epoch_to_epoch_are_counted_by_hand():
    task = chain_task(2, 2)
    at = [torch.tensor([[4.0, 3.0], [2.0, 1.0]]), torch.tensor([[4.0, 1.0], [2.0, 3.0]])]
    states = [{"0.weight": at[i]} for i in (0, 1, 1, 0)]
    between = {10 * (i + 1): state for i, state in enumerate(states[:3])}
    dense = Finished(Ticket(task.dense(), task.init()), states[3], between=between)
    # half of the weights: {4, 3} and {4, 3} elsewhere share one; two of four differ
    found = dict(MaskDistance(sparsity=0.5)(task, [], dense))
    assert found == {"mask_distance_curve": [0.5, 0, 0.5]}
    assert not dict(MaskDistance()(task, [dense], dense))  # of round 0 alone


@pytest.mark.parametrize(
    ("every", "clock", "steps"),
    [
        ("1ep", Clock(10, 40), [10, 20, 30, 40]),
        ("1.5ep", Clock(10, 40), [15, 30]),
        ("50%", Clock(10, 40), [20, 40]),
        ("1ep", Clock(10, 4, scale=0.1), [1, 2, 3, 4]),
    ],
)
def test_masks_are_drawn_at_the_multiples_of_a_duration(every, clock, steps):
    assert MaskDistance(every=every).steps(clock) == steps


@pytest.mark.parametrize("options", [{"sparsity": 1}, {"every": "0it"}, {"every": "soon"}])
def test_impossible_options_are_refused(options):
    with pytest.raises(UserError):
        MaskDistance(**options)


def test_a_real_training_is_replayed_once_for_its_snapshots(tmp_path: Path):
    task, steps = small.task(), []
    trainer = small.trainer(tmp_path, pace=Pace(replayed=steps.append))
    [trained] = trainer.fit([Job(task, Ticket(task.dense(), task.init()), Static(), Slot(0))])
    probe = MaskDistance(every="10it")
    first = dict(probe(task, [], trained))["mask_distance_curve"]
    assert len(first) == 3
    assert all(0 < value <= 2 * 0.7 * 0.3 for value in first)
    assert dict(probe(task, [], trained))["mask_distance_curve"] == first
    assert steps == [10, 10, 10]
