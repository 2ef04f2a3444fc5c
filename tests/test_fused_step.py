"""A gradient and its optimizer's step in one pass do what torch's optimizer does afterwards."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn, optim

import small
from lth_runner.masking import Static
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training import train as engine
from lth_runner.training.engines.compiled import WholeLinear, can_fuse_step, fused_step, padded
from lth_runner.training.engines.packed import Sparse, obstacle, sparse_obstacle
from lth_runner.training.engines.sequential import Sequential
from lth_runner.training.job import Job
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

OPTIMIZERS = {
    "adam": lambda p: optim.Adam(p, lr=0.01, betas=(0.8, 0.9), weight_decay=0.1),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "sgd": lambda p: optim.SGD(p, lr=0.01, weight_decay=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: optim.SGD(p, lr=0.01, momentum=0.9, nesterov=True),
}


def fusing(weights):
    """A layer of replicates' matrices [replicates, out, in] that leaves its gradient."""
    num, *shape = weights.shape
    slab = torch.zeros(num, padded(weights[0].numel(), 64))
    slab[:, : weights[0].numel()] = weights.flatten(1)
    layer = WholeLinear(tuple(shape), nn.Parameter(slab), None)
    layer.fuses_step = True
    return layer


def test_one_step_of_a_layer_of_six_weights_by_hand():
    """W = [[1, 2, 3], [4, 5, 6]], x = (1, 2, 3), dL/dy = (1, -2): g = (1, 2, 3; -2, -4, -6)."""
    layer = fusing(torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]))
    sgd = optim.SGD([layer.weight], lr=0.5, weight_decay=1.0)
    inputs = torch.zeros(1, 16, 3)
    inputs[0, 0] = torch.tensor([1.0, 2.0, 3.0])
    (layer(inputs)[0, 0] * torch.tensor([1.0, -2.0])).sum().backward()
    assert layer.weight.grad is None
    factor = torch.ones_like(layer.weight.data)
    factor[0, 1] = 0
    fused_step(layer, sgd.param_groups[0], sgd.state, factor)
    # w - 0.5 (g + w), and the second weight is pruned
    assert layer.weight[0, :6].tolist() == [0, 0, 0, 3, 4.5, 6]


def test_the_first_step_of_adam_moves_every_weight_by_the_rate():
    weights = torch.randn(2, 7, 5, generator=stream(0, "weights"))
    layer = fusing(weights)
    adam = optim.Adam([layer.weight], lr=0.01, eps=0)
    layer(torch.randn(2, 32, 5, generator=stream(0, "inputs"))).square().sum().backward()
    fused_step(layer, adam.param_groups[0], adam.state, None)
    moved = layer.weight[:, :35].view(2, 7, 5) - weights
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.01), rtol=1e-4, atol=0)
    assert not layer.weight[:, 35:].any()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 40), st.integers(1, 150)),
    samples=st.integers(1, 6),
    kind=st.sampled_from(list(OPTIMIZERS)),
    masked=st.booleans(),
)
def test_it_is_the_optimizers_step_and_the_mask_after_it(seed, shape, samples, kind, masked):
    def draw(*size):
        return torch.randn(*size, generator=stream(seed, f"{size}"))

    num, size = 2, shape[0] * shape[1]
    layer = fusing(draw(num, *shape))
    ours = OPTIMIZERS[kind]([layer.weight])
    assert can_fuse_step(ours)
    kept = (draw(num, layer.weight.shape[1]) > 0).float() if masked else None
    plain = nn.Parameter(layer.weight.detach().clone())
    theirs = OPTIMIZERS[kind]([plain])
    for step in range(3):
        inputs, upstream = (
            draw(num, 16 * samples, shape[1]) + step,
            draw(num, 16 * samples, shape[0]),
        )
        layer(inputs).backward(upstream)
        fused_step(layer, ours.param_groups[0], ours.state, kept)
        gradient = torch.bmm(upstream.transpose(1, 2), inputs).flatten(1)
        plain.grad = torch.zeros_like(plain)
        plain.grad[:, :size] = gradient
        theirs.step()
        if kept is not None:
            plain.data.mul_(kept)
    close = {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(layer.weight.data[:, :size], plain.data[:, :size], **close)
    for name, value in theirs.state[plain].items():
        found = ours.state[layer.weight][name]
        torch.testing.assert_close(found, value, **close)


def test_threads_change_no_bit():
    found, before = [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            layer = fusing(torch.randn(3, 203, 150, generator=stream(0, "weights")))
            adam = OPTIMIZERS["adam"]([layer.weight])
            layer(torch.randn(3, 80, 150, generator=stream(0, "inputs"))).square().sum().backward()
            fused_step(layer, adam.param_groups[0], adam.state, None)
            found.append([layer.weight, *adam.state[layer.weight].values()])
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(map(torch.equal, found[0], others))


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda p: optim.Adam(p, amsgrad=True),
        lambda p: optim.SGD(p, momentum=0.9, dampening=0.1),
        lambda p: optim.SGD(p, maximize=True),
        optim.RMSprop,
        type("Own", (optim.Adam,), {}),
    ],
)
def test_a_rule_that_is_not_known_is_left_to_torch(optimizer):
    assert not can_fuse_step(optimizer([nn.Parameter(torch.ones(2))]))


class Again(nn.Module):
    """Its middle layer is used three times, another in evaluation alone."""

    def __init__(self):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(16, 12), nn.Linear(12, 12), nn.Linear(12, 3)
        self.spare = nn.Linear(12, 12)

    def forward(self, x):
        hidden = self.first(x.flatten(-3)).tanh()
        for _ in range(3):
            hidden = self.middle(hidden).tanh()
        return self.last(hidden if self.training else self.spare(hidden))


def test_a_layer_used_several_times_or_not_at_all_trains_as_one_by_one():
    task = Task(Again, small.blobs().to("cpu"))
    recipe = small.recipe(length="40it")
    assert obstacle(task, Static(), recipe) is None
    assert sparse_obstacle(task, Static(), recipe) is None
    kept = {n: torch.rand(m.shape, generator=stream(0, n)) < 0.8 for n, m in task.dense().items()}
    job = Job(task, Ticket(Mask(kept), task.init()), Static())
    ends = [engine.replay(job, recipe, None, 40, engine=by) for by in (Sparse(), Sequential())]
    for name, value in ends[0].weights.items():
        torch.testing.assert_close(value, ends[1].weights[name], rtol=1e-4, atol=1e-5)
