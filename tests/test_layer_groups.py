"""Parts of a network to rewind that need no names of layers."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from fake_past import Fake, data, drawn, small_task
from lth_runner.problem import models
from lth_runner.problem.task import Task
from lth_runner.search.rewind import Rewind, layer_group
from lth_runner.search.ticket import Ticket


def branched():
    """A scale before the first of three layers, norms between them, a bias-free middle."""
    parts = OrderedDict(
        before=nn.LayerNorm(6),
        one=nn.Linear(6, 4),
        norm=nn.LayerNorm(4),
        block=nn.Sequential(OrderedDict(two=nn.Linear(4, 4, bias=False), act=nn.PReLU())),
        three=nn.Linear(4, 3),
    )
    return nn.Sequential(parts)


ONE = {"before.weight", "before.bias", "one.weight", "one.bias", "norm.weight", "norm.bias"}
TWO, THREE = {"block.two.weight", "block.act.weight"}, {"three.weight", "three.bias"}


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("first", ONE),
        ("last", THREE),
        ("early_half", ONE | TWO),
        ("late_half", THREE),
        ("all_but_first", TWO | THREE),
        ("all_but_output", ONE | TWO),
    ],
)
def test_a_group_of_layers_needs_no_names(group, expected):
    task = Task(branched, data(), 0)
    assert layer_group(task, group) == expected
    assert Rewind(layers=group).rewound(task) == expected


@pytest.mark.parametrize("model", [models.conv, models.resnet_cifar], ids=["conv4", "resnet20"])
def test_groups_divide_any_network(model):
    depth = 4 if model is models.conv else 20
    task = Task(Built(model, depth), data(), 0)
    whole = set(task.init())
    for one, rest in (
        ("first", "all_but_first"), ("last", "all_but_output"), ("early_half", "late_half"),
    ):  # fmt: skip
        halves = layer_group(task, one), layer_group(task, rest)
        assert halves[0] | halves[1] == whole
        assert not halves[0] & halves[1]
    layers = [sum(n in task.prunable for n in layer_group(task, g)) for g in ("first", "last")]
    assert layers == [1, 1]
    assert task.prunable[0] in layer_group(task, "first")
    assert task.prunable[-1] in layer_group(task, "last")


@dataclass(frozen=True)
class Built:
    model: object
    depth: int

    def __call__(self):
        return self.model(shape=(3, 32, 32), num_classes=10, depth=self.depth)


def test_rewinding_a_group_leaves_the_others_and_the_norms_trained():
    task = small_task()
    past = [Fake(task, i, Ticket(task.dense(), drawn(task, "start", i))) for i in range(2)]
    weights, _ = Rewind(step="2ep", layers="first", bn="keep")(task, past)
    early, ended = past[0].at(100), past[-1].weights
    assert {n for n in weights if torch.equal(weights[n], early[n])} == {"hidden.weight"}
    assert all(torch.equal(weights[n], ended[n]) for n in weights.keys() - {"hidden.weight"})
