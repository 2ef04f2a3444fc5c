"""One list says what normalises, and every question goes by it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import small
from fake_past import drawn
from lth_runner.problem.norm_layers import is_norm
from lth_runner.score import Synflow
from lth_runner.search.rewind import Rewind
from lth_runner.training.loop import Loop
from lth_runner.values.errors import UserError


class LlamaRMSNorm(nn.Module):
    """As users write it, with a scale of its own."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * x * x.square().mean(-1, keepdim=True).add(1e-6).rsqrt()


class LayerNorm2d(nn.LayerNorm):
    """As in torchvision and timm."""


class PreNorm(nn.Module):
    """Named after a norm, and a whole block."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)


class Norman(nn.Module):
    """Named after a person."""


class Projectionnorm(nn.Module):
    """Holds a matrix: a layer to prune."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4))


NORMS = {
    "batch": nn.BatchNorm1d, "batch2": nn.BatchNorm2d, "sync": nn.SyncBatchNorm,
    "instance": lambda n: nn.InstanceNorm1d(n, affine=True), "layer": nn.LayerNorm,
    "group": lambda n: nn.GroupNorm(2, n), "rms": nn.RMSNorm, "own": LlamaRMSNorm,
    "layer2": LayerNorm2d, "local": nn.LocalResponseNorm, "cross": nn.CrossMapLRN2d,
}  # fmt: skip


@pytest.mark.parametrize("make", NORMS.values(), ids=NORMS)
def test_a_norm_is_one_whoever_wrote_it(make):
    assert is_norm(make(4))


@pytest.mark.parametrize(
    "module",
    [
        PreNorm(), Norman(), Projectionnorm(), nn.Linear(2, 2), nn.Sequential(),
        *weight_norm(nn.Linear(2, 2)).modules(), *spectral_norm(nn.Linear(2, 2)).modules(),
    ],
    ids=lambda module: type(module).__name__,
)  # fmt: skip
def test_what_norms_weights_or_is_only_named_so_is_none(module):
    assert not is_norm(module)


SCALED = ("batch", "layer", "group", "rms", "own")


def normed(kind):
    return lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(16, 4), NORMS[kind](4), nn.ReLU(), nn.Linear(4, 3)
    )


class Ended:
    """A training that began with one state and ended with another."""

    def __init__(self, task):
        self.began, self.weights = drawn(task, "began"), drawn(task, "ended")
        self.clock, self.ticket = small.recipe().clock(6), None
        self.mask = task.dense()

    def at(self, step):
        return self.began


@pytest.mark.parametrize("kind", SCALED)
def test_rewinding_keeps_the_scale_of_every_norm_where_bn_is_keep(kind):
    task = small.task(model=normed(kind))
    past = [Ended(task)]
    for bn, source in (("keep", past[0].weights), ("rewind", past[0].began)):
        weights, _ = Rewind(bn=bn, data_order="continue")(task, past)
        assert torch.equal(weights["2.weight"], source["2.weight"])
        assert torch.equal(weights["1.weight"], past[0].began["1.weight"])


@pytest.mark.parametrize("kind", ["layer", "group", "rms", "own"])
def test_synflow_refuses_every_norm_that_scales_the_flow_away(kind):
    with pytest.raises(UserError, match="scales the flow away"):
        Synflow().check(small.task(model=normed(kind)))


def test_synflow_takes_a_network_whose_weights_are_normed():
    model = lambda: nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(16, 3)), nn.Linear(3, 3))  # noqa: E731
    task = small.task(model=model)
    assert Synflow()(task, task.init(), task.dense())["2.weight"].any()


class Own2d(nn.Module):
    """A scale with several axes, one of them longer than one."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3, padding=1), OwnNorm2d(4)
        self.wide, self.output = nn.LayerNorm([4, 4, 4]), nn.Linear(64, 3)

    def forward(self, x):
        return self.output(self.wide(self.norm(self.conv(x))).flatten(1))


class OwnNorm2d(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x):
        return self.scale * x / x.square().mean((1, 2, 3), keepdim=True).add(1e-6).sqrt()


@pytest.mark.parametrize(
    ("decay", "decayed"),
    [("weights", {"conv.weight", "output.weight"}), ("all", None)],
)
def test_decay_of_weights_spares_norms_whatever_axes_their_scales_have(decay, decayed):
    loop = Loop(small.dense_job(small.task(model=Own2d)), small.recipe(decay=decay), None)
    names = {id(value): name for name, value in loop.model.named_parameters()}
    found = {
        names[id(value)]
        for group in loop.optimizer.param_groups
        if group["weight_decay"]
        for value in group["params"]
    }
    assert found == (set(names.values()) if decayed is None else decayed)
