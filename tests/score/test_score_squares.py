"""Squared gradients of single samples, layer by layer, against each sample's own backward pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lth_runner.problem.data import Data
from lth_runner.problem.task import Task
from lth_runner.score import derivatives, squares
from lth_runner.values.seeds import stream


class Shared(nn.Module):
    """One layer used twice."""

    def __init__(self):
        super().__init__()
        self.flatten, self.middle, self.output = nn.Flatten(), nn.Linear(72, 72), nn.Linear(72, 3)

    def forward(self, x):
        return self.output(self.middle(self.middle(self.flatten(x)).tanh()))


class Hidden(nn.Module):
    """A weight that is used beside its layer too."""

    def __init__(self):
        super().__init__()
        self.flatten, self.middle, self.output = nn.Flatten(), nn.Linear(72, 72), nn.Linear(72, 3)

    def forward(self, x):
        flat = self.flatten(x)
        return self.output(self.middle(flat).tanh() + flat @ self.middle.weight)


class Places(nn.Module):
    """Linear layers over every row of an image."""

    def __init__(self):
        super().__init__()
        self.row, self.output = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.output(self.row(x).relu_().mean((1, 2)))


def convolutions():
    """Strides, dilation, paddings, in-place activations, norms, a linear layer."""
    return nn.Sequential(
        nn.Conv2d(2, 5, 3, stride=2, padding=(1, 2)), nn.BatchNorm2d(5), nn.ReLU(inplace=True),
        nn.Conv2d(5, 4, 2, dilation=2, bias=False), nn.ReLU(inplace=True),
        nn.Flatten(), nn.LazyLinear(3),
    )  # fmt: skip


def sized():
    model = convolutions()
    model(torch.zeros(2, 2, 6, 6))
    return model


def grouped():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2), nn.Conv2d(4, 4, 3, padding="same"), nn.Flatten(),
        nn.Linear(64, 3),
    )  # fmt: skip


def task_of(model, *, biases=False):
    inputs = torch.randn(7, 2, 6, 6, generator=stream(0, "inputs"))
    split = inputs, torch.arange(7) % 3
    return Task(model, Data.from_tensors(split, split, validation=0), biases=biases)


def derived(logits, labels):
    return logits.log_softmax(1)[:, 1].sin()


@pytest.mark.parametrize(
    ("model", "fast"),
    [(sized, True), (Places, True), (Shared, False), (Hidden, False), (grouped, False)],
)
@pytest.mark.parametrize("biases", [False, True])
def test_every_network_has_each_samples_squares(monkeypatch, model, fast, biases):
    task = task_of(model, biases=biases)
    start = derivatives.to_device_and_dtype(task, task.init(0), min_dtype=torch.float64)
    batches = [(task.data.train[0][:4], task.data.train[1][:4]), task.data.sample(3, 0)]
    expected = {name: torch.zeros_like(start[name]) for name in task.prunable}
    for inputs, labels in batches:
        for one, label in zip(inputs.double(), labels, strict=True):
            own = {name: start[name].clone().requires_grad_() for name in task.prunable}
            value = derived(task.outputs(start | own, one[None]), label[None])
            gradients = torch.autograd.grad(value, list(own.values()))
            for name, g in zip(own, gradients, strict=True):
                expected[name] += g.square() / 7
    asked = []
    by_sample = squares._sums_by_sample

    def counted(task, start, names, batch, derived):
        asked.append(len(batch[1]))
        return by_sample(task, start, names, batch, derived)

    monkeypatch.setattr(squares, "_sums_by_sample", counted)
    monkeypatch.setattr(squares, "_NUMBERS", 1500)  # pieces of a sample or two
    found = squares.mean_squares(task, start, batches, [derived])
    assert (asked == [2]) == fast
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-15)
