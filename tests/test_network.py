"""How a network lies in memory in trainings, and in answers alone."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from lth_runner.export.programs import channels_last
from lth_runner.problem.data import synthetic
from lth_runner.problem.models import resnet_cifar
from lth_runner.problem.task import Task
from lth_runner.training.network import fresh_network
from small import recipe


@pytest.mark.parametrize(("width", "is_last"), [(4, False), (15, False), (16, True)])
def test_a_network_of_narrow_strided_shortcuts_is_not_channels_last(
    width: int, is_last: bool
) -> None:
    model = partial(resnet_cifar, depth=8, width=width, shape=[3, 224, 224], num_classes=10)
    task = Task(model, synthetic(shape=(3, 224, 224), num_train=10, num_test=10), 0)
    network = fresh_network(task, recipe()).train()
    first = dict(network.named_parameters())["conv1.weight"]
    assert first.is_contiguous(memory_format=torch.channels_last) == is_last
    if width == 4:  # ended the process
        network(torch.zeros(8, 3, 224, 224)).sum().backward()


class Viewing(nn.Module):
    """Flattens as the first tutorials do, which takes channels first alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.output = nn.Conv2d(3, 4, 3), nn.Linear(4 * 6 * 6, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.output(self.inner(inputs).view(-1, 4 * 6 * 6))


def test_a_network_that_views_what_convolutions_answer_lies_channels_first() -> None:
    task = Task(Viewing, synthetic(shape=(3, 8, 8), num_train=10, num_test=10), 0)
    network = fresh_network(task, recipe()).train()
    network(torch.zeros(8, 3, 8, 8)).sum().backward()
    example = torch.zeros(2, 3, 8, 8)
    assert channels_last(network.eval(), example)(example).shape == (2, 10)


class Ordered(nn.Module):
    """Notes in which order its convolution answers."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.inner, self.output = nn.Conv2d(channels, 4, 3), nn.Linear(4, 10)
        self.seen: list[bool] = []

    def forward(self, inputs: Tensor) -> Tensor:
        found = self.inner(inputs)
        self.seen.append(found.is_contiguous(memory_format=torch.channels_last))
        return self.output(found.mean((2, 3)))


@pytest.mark.parametrize("channels", [1, 3])
def test_answers_alone_come_channels_last_too_and_are_the_same(channels: int) -> None:
    data = synthetic(shape=(channels, 8, 8), num_train=10, num_test=10)
    task = Task(partial(Ordered, channels), data, 0)
    weights = task.init()
    inputs = torch.ones(2, channels, 8, 8)
    plain, placed = task.outputs(weights, inputs), task.placed(weights)
    torch.testing.assert_close(task.outputs(placed, inputs), plain)
    [network] = [part for _, part in task.named_modules() if isinstance(part, Ordered)]
    assert network.seen == [False, True]
    assert task.evaluate(weights, "test")["loss"] > 0
    assert network.seen[2:] == [True]
    assert all(torch.equal(placed[name], value) for name, value in weights.items())


def test_answers_of_a_network_that_views_come_channels_first() -> None:
    task = Task(Viewing, synthetic(shape=(3, 8, 8), num_train=10, num_test=10), 0)
    assert task.evaluate(task.init(), "test")["loss"] > 0
