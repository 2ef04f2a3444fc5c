"""A network's units change places and it computes the same; matching finds its way back."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import nn

from lth_runner.problem import models
from lth_runner.study.permutation import Matching, Symmetries
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from pretrained import config, weights
from test_shrink import answer, trained

IMAGES = {"shape": [3, 8, 8], "num_classes": 5}
TOKENS = {"width": 16, "depth": 2, "heads": 4, "vocabulary": 20, "length": 6}


class Shared(nn.Module):
    """One layer twice, whose inputs are its outputs: they share an order."""

    def __init__(self):
        super().__init__()
        self.first, self.again, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, inputs):
        hidden = self.first(inputs).relu()
        return self.last(self.again(self.again(hidden).relu()).relu())


class Encoder(nn.Module):
    """torch's own attention, whose weights are packed into one matrix."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, batch_first=True)
        self.last = nn.Linear(12, 3)

    def forward(self, inputs):
        return self.last(self.attention(inputs, inputs, inputs, need_weights=False)[0]).mean(1)


class Halves(nn.Module):
    """Two halves of one layer, of which each goes through another function."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, inputs):
        one, other = self.first(inputs).chunk(2, 1)
        return self.last(torch.cat([one.relu(), other.tanh()], 1))


def bert():
    return weights(config("bert"), "ForSequenceClassification")


def vit():
    from torchvision.models import VisionTransformer

    return VisionTransformer(8, 4, 1, 2, 16, 24, num_classes=3)


IMAGE, TOKEN = torch.randn(2, 3, 8, 8), torch.arange(12).reshape(2, 6) % 19 + 1
SEEN = {"input_ids": TOKEN, "attention_mask": torch.ones(2, 6, dtype=torch.int64)}
NETWORKS = {  # name -> network, an input, sizes of its groups
    "mlp with norms": (
        lambda: models.mlp(**IMAGES, widths=[12, 7], norm="batch"), IMAGE, [12, 7]
    ),
    "lenet5": (
        lambda: models.lenet5(shape=[1, 28, 28], num_classes=10), torch.randn(2, 1, 28, 28),
        [20, 50, 500],
    ),
    # of each layer and direction its own units
    "lstm": (lambda: Recurrent(num_layers=2, bidirectional=True), IMAGE, [6, 6, 6, 6]),
    # a residual stream of each stage, one layer within each of its three blocks
    "resnet20": (
        lambda: models.resnet_cifar(depth=20, width=4, norm="batch", **IMAGES), IMAGE,
        [4, 4, 4, 4, 8, 8, 8, 8, 16, 16, 16, 16],
    ),
    "transformer": (
        lambda: models.transformer_classifier(num_classes=3, **TOKENS), SEEN, [4, 64, 4, 64]
    ),
    "vit": (vit, IMAGE, [2, 24]),
    "bert": (bert, SEEN, [2, 24, 2, 24, 16]),
    "torch's attention": (Encoder, torch.randn(2, 4, 12), [3, 12]),
    "a shared layer": (Shared, torch.randn(2, 6), [8]),
    "two halves": (Halves, torch.randn(2, 6), [4, 4]),
}  # fmt: skip
WITH_HEADS = ("transformer", "vit", "bert", "torch's attention")


def logits(module, example):
    given = answer(module, example)
    return given if isinstance(given, torch.Tensor) else given.logits


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    build, example, sizes = NETWORKS[request.param]
    torch.manual_seed(0)
    module = trained(build())
    return module, example, sizes, Symmetries.of_module(module, example), request.param


def moved(module, state):
    other = copy.deepcopy(module)
    states.write(other, state)
    return other


def test_the_groups_are_those_of_the_graph(network):
    _, _, sizes, symmetries, name = network
    assert sorted(group.size for group in symmetries.groups) == sorted(sizes)
    assert any(group.parts for group in symmetries.groups) == (name in WITH_HEADS)


@pytest.mark.slow
def test_a_vgg_is_permuted_and_matched_back():
    module = trained(models.vgg(depth=11, shape=[3, 32, 32], num_classes=5))
    example = torch.randn(2, 3, 32, 32)
    symmetries = Symmetries.of_module(module, example)
    own, before = states.read(module), logits(module, example)
    other = symmetries.applied(own, symmetries.random(1))
    assert (logits(moved(module, other), example) - before).abs().max() <= 1e-5
    back = symmetries.applied(other, Matching()(symmetries, own, other).orders)
    assert all(torch.equal(back[name], own[name]) for name in own)


@settings(max_examples=4, deadline=None)
@given(seed=some.integers(0, 2**31))
def test_permuted_units_change_no_logit(network, seed):
    module, example, _, symmetries, _ = network
    before = logits(module, example)
    state = symmetries.applied(states.read(module), symmetries.random(seed))
    assert any(not torch.equal(state[n], v) for n, v in module.state_dict().items())
    assert (logits(moved(module, state), example) - before).abs().max() <= 1e-5


def test_a_permuted_copy_is_matched_back_exactly(network):
    module, _, _, symmetries, _ = network
    own = states.read(module)
    other = symmetries.applied(own, symmetries.random(1))
    found = Matching()(symmetries, own, other)
    back = symmetries.applied(other, found.orders)
    assert all(torch.equal(back[name], own[name]) for name in own)
    assert found.after > found.before


def test_matching_never_lowers_what_it_makes_large(network):
    module, _, _, symmetries, _ = network
    one = states.read(module)
    two = {n: v + 0.3 * torch.randn(v.shape) if v.is_floating_point() else v
           for n, v in one.items()}  # fmt: skip
    two = symmetries.applied(two, symmetries.random(2))
    sums = [Matching(num_sweeps=n, seed=3)(symmetries, one, two).after for n in (1, 2, 5, 100)]
    start = Matching()(symmetries, one, two).before
    assert [start, *sums] == sorted([start, *sums])


def test_matching_is_a_function_of_its_seed():
    module = trained(models.mlp(**IMAGES, widths=[30, 30, 30]))
    symmetries = Symmetries.of_module(module, IMAGE)
    other = states.read(trained(models.mlp(**IMAGES, widths=[30, 30, 30]), seed=1))
    found = [Matching(seed=seed)(symmetries, states.read(module), other) for seed in (0, 0, 5)]
    first, again, _ = ([order.units.tolist() for order in one.orders] for one in found)
    assert first == again


def test_what_stays_says_why():
    assert Symmetries.of_module(trained(models.mlp(**IMAGES, widths=[4])), IMAGE).stays == {
        "output": "they are what the network answers"
    }
    grouped = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 8, 1, groups=4), nn.ReLU(),
                            nn.Conv2d(8, 2, 1), nn.Flatten())  # fmt: skip
    with pytest.raises(UserError, match=r"cannot be permuted.*0: 2 is a convolution in groups"):
        Symmetries.of_module(grouped.eval(), IMAGE)


class Recurrent(nn.Module):
    def __init__(self, **sizes):
        super().__init__()
        self.cells = nn.LSTM(8, 6, batch_first=True, **sizes)
        self.head = nn.Linear(12 if sizes else 6, 2)

    def forward(self, inputs):
        return self.head(self.cells(inputs[:, 0])[0][:, -1])


def test_units_of_a_recurrent_layer_change_places_with_all_their_gates():
    (group,) = Symmetries.of_module(Recurrent().eval(), IMAGE).groups
    assert (group.layer, group.size) == ("cells", 6)
    found = {(place.name, place.axis, place.index.shape[1]) for place in group.places}
    assert {("cells.weight_hh_l0", 0, 4), ("cells.weight_hh_l0", 1, 1)} <= found


class Written(nn.LSTM):
    """A recurrent layer with a forward of its own, which no rule knows."""

    def forward(self, inputs):
        return super().forward(inputs)


def test_a_recurrent_layer_of_ones_own_is_named_as_what_is_in_the_way():
    module = Recurrent()
    module.cells = Written(8, 6, batch_first=True)
    with pytest.raises(
        UserError, match=r"cannot be permuted.*\(cells: cells is recurrent, and its"
    ):
        Symmetries.of_module(module.eval(), IMAGE)


def test_a_network_without_hidden_units_is_refused():
    with pytest.raises(UserError, match="no layer has units that may change places"):
        Symmetries.of_module(models.mlp(**IMAGES, widths=[]).eval(), IMAGE)
    hooked = models.mlp(**IMAGES, widths=[4])
    hooked.linear1.register_forward_hook(lambda *_: None)
    with pytest.raises(UserError, match=r"linear1 .*has hooks"):
        Symmetries.of_module(hooked.eval(), IMAGE)


@pytest.mark.parametrize("num", [0, True, 1.5, 2000])
def test_a_number_of_sweeps_that_is_none_is_refused(num):
    with pytest.raises(UserError, match="num_sweeps"):
        Matching(num_sweeps=num)
