"""Scores of whole channels."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from score_cases import SHAPE, images, task
from torch import nn

from lth_runner.allocate import Global
from lth_runner.problem import models
from lth_runner.problem.requirements import check
from lth_runner.problem.task import Task
from lth_runner.score import FilterNorm, NormScale
from lth_runner.score.channel import norm_after
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask


class Block(nn.Module):
    """Norms declared before the convolutions that they follow, a skip, and two without a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_b, self.norm_a = nn.BatchNorm2d(2), nn.GroupNorm(1, 3)
        self.conv_a, self.conv_b = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 2, 1)
        self.conv_c, self.idle = nn.Conv2d(2, 2, 1), nn.Identity()
        self.last_norm, self.output = nn.BatchNorm2d(2), nn.Linear(128, 3)

    def forward(self, inputs):
        hidden = torch.relu(self.norm_a(self.idle(self.conv_a(inputs))))
        hidden = inputs + self.norm_b(self.conv_b(hidden))
        hidden = self.last_norm(inputs + self.conv_c(hidden))  # reads a sum: nobody's norm
        return self.output(hidden.flatten(1))


def test_a_norm_belongs_to_the_layer_whose_output_it_reads():
    assert norm_after(Task(Block, images())) == {
        "conv_a.weight": "norm_a.weight",
        "conv_b.weight": "norm_b.weight",
    }


def test_norms_are_found_in_the_networks_of_the_papers():
    found = norm_after(task("resnet"))
    convolutions = set(task("resnet").prunable) - {"output.weight"}
    assert set(found) == convolutions
    assert found["stage2.block1.shortcut.conv.weight"] == "stage2.block1.shortcut.norm.weight"
    wide = norm_after(Task(partial(models.wide_resnet, **SHAPE, depth=10, width=1), images()))
    assert found["stage1.block1.conv2.weight"] == "stage1.block1.norm2.weight"
    # norms before convolutions: only what goes straight into one has it for its own
    inner = {f"stage{i}.block1.conv1.weight": f"stage{i}.block1.norm2.weight" for i in (1, 2, 3)}
    assert wide == {"conv1.weight": "stage1.block1.norm1.weight", **inner}
    flat = norm_after(Task(partial(models.mlp, **SHAPE, widths=(5,), norm="batch"), images()))
    assert flat == {"linear1.weight": "norm1.weight"}


def test_each_weight_of_a_channel_has_its_norms_scale():
    problem = Task(Block, images())
    weights = problem.init()
    weights["norm_a.weight"] = torch.tensor([0.5, -2.0, 0.25])
    weights["norm_b.weight"] = torch.tensor([0.1, 0.0])
    found = NormScale()(problem, weights, problem.dense())
    assert found["conv_a.weight"].flatten(1).tolist() == [[0.5] * 2, [2.0] * 2, [0.25] * 2]
    assert torch.equal(found["conv_b.weight"].flatten(1), torch.tensor([[0.1] * 3, [0.0] * 3]))


def test_layers_without_a_norm_are_the_last_to_go():
    problem = Task(Block, images())
    found = NormScale()(problem, problem.init(), problem.dense())
    spared = sum(problem.dense()[n].numel() for n in ("conv_c.weight", "output.weight"))
    mask = Global()(found, spared / problem.dense().num_prunable, problem.dense(), 0)
    assert mask.layer_density() == {
        "conv_a.weight": 0,
        "conv_b.weight": 0,
        "conv_c.weight": 1,
        "output.weight": 1,
    }


def test_a_network_without_such_norms_is_refused():
    with pytest.raises(UserError, match=r"pruner\.search\.score: .*no batch or group norm"):
        check(NormScale(), task("mlp"))


def test_filter_norms_by_hand():
    """Rows of a linear layer, of which the mask has taken some weights away."""
    problem = Task(lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 3)), images())
    weights = problem.init()
    weights["1.weight"] = torch.zeros(3, 128)
    weights["1.weight"][:, :3] = torch.tensor([[3.0, -4.0, 9.0], [1.0, 1.0, 0.0], [0.0, 0.0, 5.0]])
    kept = torch.ones(3, 128, dtype=torch.bool)
    kept[:, 2] = False
    for order, expected in ((1, [7.0, 2.0, 0.0]), (2, [5.0, 2.0**0.5, 0.0])):
        found = FilterNorm(order)(problem, weights, Mask({"1.weight": kept}))["1.weight"]
        torch.testing.assert_close(found, torch.tensor(expected)[:, None].expand(3, 128))


def test_filters_of_a_convolution_are_its_output_channels():
    weights = task("resnet").init(7)
    found = FilterNorm()(task("resnet"), weights, task("resnet").dense())["conv1.weight"]
    for channel, value in enumerate(found):
        expected = float(weights["conv1.weight"][channel].abs().sum())
        assert value.unique().tolist() == pytest.approx([expected])
