"""Shrinking cuts dead channels, units and heads out, and the network answers as before."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import prune

from lth_runner.cutting import shrink
from lth_runner.problem import models
from lth_runner.values.errors import UserError
from pretrained import config, weights

LAYERS = (nn.Linear, _ConvNd)


def trained(module, *, seed=0):
    """Draws biases and norms as training leaves them: nothing is 0 or 1."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, (_NormBase, nn.GroupNorm, nn.LayerNorm)):
            if part.weight is not None:
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, std=0.3)
            if getattr(part, "running_mean", None) is not None:
                part.running_mean.normal_(0, 0.3)
                part.running_var.uniform_(0.5, 2)
        elif isinstance(part, LAYERS) and part.bias is not None:
            nn.init.normal_(part.bias, std=0.3)
    return module.eval()


def dead_rows_and_columns(module, *, share=0.4, scattered=0.0, seed=0):
    """Draws a mask in which rows and columns of weights are dead, and single weights beside."""
    generator, mask = torch.Generator().manual_seed(seed), {}
    names = {id(value): name for name, value in module.named_parameters()}
    for part in module.modules():
        if isinstance(part, LAYERS):
            weight = part.weight
            kept = torch.rand(weight.shape, generator=generator) >= scattered
            kept &= (torch.rand(len(weight), generator=generator) >= share).reshape(
                -1, *[1] * (weight.ndim - 1)
            )
            if weight.shape[1] > 1 and not isinstance(part, _ConvTransposeNd):
                kept &= (torch.rand(weight.shape[1], generator=generator) >= share / 2).reshape(
                    1, -1, *[1] * (weight.ndim - 2)
                )
            mask[names[id(weight)]] = kept
    return mask


@torch.no_grad()
def masked(module, mask):
    copied = copy.deepcopy(module).eval()
    for name, value in copied.named_parameters():
        if name in mask:
            value.masked_fill_(~mask[name], 0)
    return copied


@torch.no_grad()
def answer(module, example):
    if isinstance(example, dict):
        return module(**example)
    return module(example)


def check(module, mask, example, **expected):
    """Shrinks, and compares the answers by a second, plain way."""
    found = shrink(module, mask, example)
    before = answer(masked(module, mask), example)
    after = answer(found.module.eval(), example)
    assert (before - after).abs().max() <= 1e-5 * before.abs().max()
    assert found.num_parameters[1] == sum(value.numel() for value in found.module.parameters())
    for name, width in expected.items():
        assert found.widths.get(name.replace("_", ".")) == width
    return found


def without(size, *dead):
    kept = torch.ones(size, dtype=torch.bool)
    kept[list(dead)] = False
    return kept


def rows(layer, *dead):
    """Keeps all but some rows of a layer's weight."""
    weight = layer.weight
    kept = without(len(weight), *dead)
    return kept.reshape(-1, *[1] * (weight.ndim - 1)).expand_as(weight).clone()


def columns(layer, *dead):
    weight = layer.weight
    kept = without(weight.shape[1], *dead)
    return kept.reshape(1, -1, *[1] * (weight.ndim - 2)).expand_as(weight).clone()


IMAGE = {"shape": (3, 16, 16), "num_classes": 5}
TEXT = {"vocabulary": 11, "length": 6, "width": 16, "depth": 1, "heads": 4}
TOKENS = torch.arange(12).reshape(2, 6) % 11
SENTENCES = {"input_ids": TOKENS, "attention_mask": (torch.arange(12).reshape(2, 6) < 10).long()}
OURS = {
    "mlp": lambda: models.mlp(widths=(20, 12), norm="batch", **IMAGE),
    "lenet300": lambda: models.lenet300(**IMAGE),
    "lenet5": lambda: models.lenet5(**IMAGE),
    "conv": lambda: models.conv(depth=2, **IMAGE),
    "resnet_cifar": lambda: models.resnet_cifar(depth=8, width=8, **IMAGE),
    "resnet_cifar of groups": lambda: models.resnet_cifar(depth=8, width=32, norm="group", **IMAGE),
    "wide_resnet": lambda: models.wide_resnet(depth=10, width=1, **IMAGE),
    "unet": lambda: models.unet(**IMAGE),
    "transformer_classifier": lambda: models.transformer_classifier(num_classes=3, **TEXT),
    "with a token": lambda: models.transformer_classifier(num_classes=3, pooling="token", **TEXT),
    "causal_transformer": lambda: models.causal_transformer(**TEXT),
    "masked_transformer": lambda: models.masked_transformer(tied=True, **TEXT),
}
LARGE = {
    "vgg": lambda: models.vgg(depth=11, **IMAGE),
    "resnet18": lambda: models.resnet18(**IMAGE),
    "resnet50": lambda: models.resnet50(stem="cifar", **IMAGE),
}


def example_for(name):
    if "classifier" in name or "token" in name:
        return SENTENCES
    if "transformer" in name:
        return TOKENS
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", [*OURS, *[pytest.param(n, marks=pytest.mark.slow) for n in LARGE]])
def test_each_of_our_networks_shrinks_to_equal_answers(name):
    module = trained({**OURS, **LARGE}[name]())
    found = check(module, dead_rows_and_columns(module), example_for(name))
    assert found.num_parameters[1] < found.num_parameters[0]


def foreign(name):
    vision = pytest.importorskip("torchvision").models
    if name == "densenet":
        return vision.DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=8)
    if name == "resnext":
        return vision.ResNet(vision.resnet.Bottleneck, [1, 1, 1, 1], 7, groups=4, width_per_group=4)
    if name == "vgg with norms":
        features = vision.vgg.make_layers([8, "M", 16, 16, "M"], batch_norm=True)
        return nn.Sequential(features, nn.AdaptiveAvgPool2d((7, 7)), nn.Flatten(),
                             nn.Linear(16 * 49, 32), nn.ReLU(), nn.Dropout(),
                             nn.Linear(32, 5))  # fmt: skip
    if name == "mobilenet_v2":
        return vision.MobileNetV2(7, 0.25, [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 2]])
    if name == "mobilenet_v3":
        part = vision.mobilenetv3.InvertedResidualConfig
        sizes = [(8, 3, 16, 8, True, "RE", 2, 1, 1), (8, 5, 24, 16, True, "HS", 1, 1, 1)]
        blocks = [part(*each) for each in sizes]
        return vision.MobileNetV3(blocks, 32, num_classes=7)
    if name == "shufflenet":
        return vision.ShuffleNetV2([2, 2, 2], [8, 16, 32, 64, 64], num_classes=7)
    if name == "vit":
        return vision.VisionTransformer(32, 8, 1, 2, 16, 32, num_classes=7)
    return vision.get_model(name, weights=None, num_classes=7)


FOREIGN = ["vgg with norms", "mobilenet_v2", "mobilenet_v3", "densenet", "shufflenet", "vit"]
FOREIGN_LARGE = ["resnet18", "resnext", "mobilenet_v3_small", "densenet121", "squeezenet1_1",
                 "efficientnet_b0", "swin_t", "convnext_tiny"]  # fmt: skip


@pytest.mark.parametrize(
    "name", [*FOREIGN, *[pytest.param(n, marks=pytest.mark.slow) for n in FOREIGN_LARGE]]
)
def test_networks_of_others_shrink_to_equal_answers(name):
    module = trained(foreign(name))
    found = check(module, dead_rows_and_columns(module), torch.randn(2, 3, 32, 32))
    assert found.num_parameters[1] < found.num_parameters[0]


def test_what_a_dead_unit_sends_moves_into_the_next_bias():
    module = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        module[0].bias.copy_(torch.tensor([0.5, 2.0, -1.0]))
        module[2].weight.copy_(torch.tensor([[1.0, 3.0, 4.0], [5.0, -1.5, 6.0]]))
        module[2].bias.copy_(torch.tensor([0.25, 0.5]))
    found = check(module, {"0.weight": rows(module[0], 1, 2)}, torch.randn(4, 2))
    assert found.widths == {"0": (3, 1)}
    # unit 1 sends relu(2) = 2, unit 2 sends relu(-1) = 0
    assert found.module[2].bias.tolist() == [0.25 + 3.0 * 2, 0.5 - 1.5 * 2]
    assert found.module[2].weight.tolist() == [[1.0], [5.0]]
    assert found.num_parameters == (17, 2 + 1 + 2 + 2)
    assert found.blocked == {}


def test_a_unit_that_nobody_hears_goes_and_so_does_what_only_it_heard():
    module = trained(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 5), nn.Tanh(),
                                   nn.Linear(5, 2)))  # fmt: skip
    middle = rows(module[2])
    middle[:, 0] = False
    middle[3, 0] = True  # unit 0 of the first layer is heard by unit 3 of the second alone
    mask = {"2.weight": middle, "4.weight": columns(module[4], 3, 4)}
    assert check(module, mask, torch.randn(2, 3)).widths == {"0": (4, 3), "2": (5, 3)}


def test_a_norms_constant_moves_through_a_convolution_without_padding_and_makes_a_bias():
    module = trained(nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(),
                                   nn.Conv2d(4, 2, 3, bias=False)))  # fmt: skip
    module[1].bias.data[2] = 9.0
    found = check(module, {"0.weight": rows(module[0], 2)}, torch.randn(2, 1, 8, 8))
    assert found.widths == {"0": (4, 3)}
    norm = module[1]
    scale = norm.weight[2] / (norm.running_var[2] + norm.eps) ** 0.5
    sent = norm.bias[2] - scale * norm.running_mean[2]
    moved = module[3].weight[:, 2].sum((1, 2)) * sent
    assert torch.allclose(found.module[3].bias, moved, rtol=1e-5)


@pytest.mark.parametrize(("dead", "left"), [((2,), 4), ((2, 3), 3), ((0, 2, 3), 2)])
def test_before_zero_padding_one_constant_channel_stays_and_sends_what_all_have_sent(dead, left):
    module = trained(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1),
                                   nn.AdaptiveAvgPool2d(1), nn.Flatten()))  # fmt: skip
    module[0].bias.data.abs_()
    found = check(module, {"0.weight": rows(module[0], *dead)}, torch.randn(2, 1, 6, 6))
    assert found.widths.get("0", (4, 4)) == (4, left)
    assert found.blocked["0"].startswith("1 dead stay: its constant fits no bias")


def test_a_constant_of_zero_passes_zero_padding():
    module = trained(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 3, padding=1)))
    module[0].bias.data[:] = -1
    found = check(module, {"0.weight": rows(module[0], 1, 2)}, torch.randn(2, 1, 6, 6))
    assert found.widths == {"0": (4, 2)}
    assert found.blocked == {}


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.inner = nn.Linear(3, 4), nn.Linear(4, 6)
        self.outer, self.last = nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x)
        return self.last(x + self.outer(F.relu(self.inner(x))))


def test_a_residual_channel_goes_only_where_every_layer_that_adds_to_it_is_dead():
    module = trained(Residual())
    mask = {"first.weight": rows(module.first, 0, 1), "outer.weight": rows(module.outer, 1, 2)}
    found = check(module, mask, torch.randn(2, 3))
    assert found.widths == {"first": (4, 3), "outer": (4, 3)}


def test_of_a_branch_that_is_dead_altogether_one_channel_stays():
    module = trained(Residual())
    found = check(module, {"outer.weight": rows(module.outer, *range(4))}, torch.randn(2, 3))
    assert found.widths == {"inner": (6, 1)}
    assert found.blocked == {"inner": "1 dead stay: a layer keeps one at least"}


def test_depthwise_channels_go_with_their_inputs_and_groups_in_equal_numbers():
    module = trained(nn.Sequential(
        nn.Conv2d(1, 6, 1), nn.ReLU(), nn.Conv2d(6, 12, 3, groups=6), nn.ReLU(),
        nn.Conv2d(12, 6, 1, groups=3), nn.ReLU(), nn.Conv2d(6, 2, 1),
    ))  # fmt: skip
    mask = {"6.weight": columns(module[6], 0, 1)}  # the first of three groups
    found = check(module, mask, torch.randn(2, 1, 5, 5))
    assert found.widths == {"0": (6, 4), "2": (12, 8), "4": (6, 4)}
    assert (found.module[2].groups, found.module[4].groups) == (4, 2)
    found = check(module, {"6.weight": columns(module[6], 0, 2, 3)}, torch.randn(2, 1, 5, 5))
    assert found.widths == {"0": (6, 4), "2": (12, 8), "4": (6, 4)}  # the second group
    assert "groups of equal size" in found.blocked["4"]
    found = check(module, {"6.weight": columns(module[6], 0, 3, 4)}, torch.randn(2, 1, 5, 5))
    assert found.widths == {"4": (6, 3)}


class Joined(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Conv2d(2, 3, 1), nn.Conv2d(2, 4, 1)
        self.shuffle, self.last = nn.Conv2d(7, 8, 1), nn.Linear(2 * 6 * 6, 3)

    def forward(self, x):
        x = torch.cat([self.one(x), x[:, :0], self.other(x)], 1)
        return self.last(F.pixel_shuffle(torch.tanh(self.shuffle(x)), 2).flatten(1))


def test_concatenations_pixel_shuffles_and_flattening_are_followed():
    module = trained(Joined())
    last = without(72, *range(36)).expand(3, 72).clone()  # the first channel after the shuffle
    mask = {"other.weight": rows(module.other, 0, 3), "last.weight": last}
    found = check(module, mask, torch.randn(2, 2, 3, 3))
    assert found.widths == {"other": (4, 2), "shuffle": (8, 4)}
    assert found.module.last.in_features == 36


def test_what_a_mean_is_taken_over_stays():
    module = trained(nn.Sequential(nn.Linear(3, 8), nn.LayerNorm(8), nn.Linear(8, 2)))
    found = check(module, {"0.weight": rows(module[0], 1, 2)}, torch.randn(2, 3))
    assert found.widths == {}
    assert found.blocked == {"0": "2 dead stay: LayerNorm (1) takes their mean"}
    module = trained(nn.Sequential(nn.Linear(3, 8), nn.Softmax(1), nn.Linear(8, 2)))
    found = check(module, {"0.weight": rows(module[0], 1, 2)}, torch.randn(2, 3))
    assert found.widths == {}
    assert "_softmax in 1 is taken over them".strip("_") in found.blocked["0"]


def test_whole_groups_of_a_group_norm_go():
    module = trained(nn.Sequential(nn.Conv2d(1, 8, 1), nn.GroupNorm(4, 8), nn.Conv2d(8, 2, 1)))
    found = check(module, {"0.weight": rows(module[0], 0, 2, 3)}, torch.randn(2, 1, 4, 4))
    # channels 2 and 3 are a group, each of them constant but not the same: their mean counts
    assert "takes their mean" in found.blocked["0"]
    mask = {"2.weight": columns(module[2], 0, 2, 3)}
    found = check(module, mask, torch.randn(2, 1, 4, 4))
    assert found.widths == {"0": (8, 6)}
    assert (found.module[1].num_groups, found.module[1].num_channels) == (3, 6)


def test_dead_heads_are_cut_out_of_attention():
    module = trained(models.transformer_classifier(num_classes=3, **TEXT))
    mask = {f"trunk.blocks.0.attention.{n}.weight":
            rows(getattr(module.trunk.blocks[0].attention, n), 4, 5, 6, 7)
            for n in ("query", "key", "value")}  # fmt: skip
    found = check(module, mask, SENTENCES)
    place = "trunk.blocks.0.attention"
    expected = {f"{place}.{n}": (16, 12) for n in ("query", "key", "value")}
    assert found.widths == {**expected, f"{place}.heads": (4, 3)}
    # without its query and key a head still takes a mean of its values
    del mask[f"{place}.value.weight"]
    assert check(module, mask, SENTENCES).widths == {}


class Attention(nn.Module):
    """Packs query, key and value, as many foreign networks do; heads as many as their size."""

    def __init__(self):
        super().__init__()
        self.num_heads, self.head_dim = 4, 4
        self.qkv, self.proj = nn.Linear(16, 48), nn.Linear(16, 16)

    def forward(self, x):
        parts = self.qkv(x).reshape(*x.shape[:2], 3, self.num_heads, self.head_dim)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        found = (query @ key.transpose(-2, -1) / self.head_dim**0.5).softmax(-1) @ value
        return self.proj(found.transpose(1, 2).flatten(2))


def test_heads_are_found_in_packed_projections_and_their_number_is_told():
    module = trained(Attention())
    found = check(module, {"proj.weight": columns(module.proj, *range(8, 12))},
                  torch.randn(2, 5, 16))  # fmt: skip
    assert found.widths == {"qkv": (48, 36), "num_heads": (4, 3)}
    assert found.module.head_dim == 4


def test_heads_as_many_as_their_size_are_told_from_it_whatever_their_names():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.h, self.hd, self.qkv, self.proj = 4, 4, nn.Linear(16, 48), nn.Linear(16, 16)

        def forward(self, x):
            parts = self.qkv(x).reshape(*x.shape[:2], 3, self.h, self.hd)
            query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
            found = (query @ key.transpose(-2, -1)).softmax(-1) @ value
            return self.proj(found.transpose(1, 2).flatten(2))

    module = trained(Plain())
    mask = {"proj.weight": columns(module.proj, *range(8, 12))}
    found = check(module, mask, torch.randn(2, 5, 16))
    assert found.widths == {"qkv": (48, 36), "h": (4, 3)}


def test_numbers_that_only_happen_to_be_as_many_as_heads_stay():
    module = trained(Attention())
    module.depth, module.num_classes = 4, 4  # as many as the heads, and 16 is the width
    module.width = 16
    found = check(module, {"proj.weight": columns(module.proj, *range(8, 16))},
                  torch.randn(2, 5, 16))  # fmt: skip
    assert found.widths == {"qkv": (48, 24), "num_heads": (4, 2)}
    kept = found.module
    assert (kept.depth, kept.num_classes, kept.width, kept.num_heads) == (4, 4, 16, 2)


def test_heads_and_hidden_units_of_gpt2_go_whose_layers_state_their_sizes():
    pytest.importorskip("transformers")
    module = weights(config("gpt2", use_cache=False), "ForCausalLM").eval()
    block = "transformer.h.0"
    mask = {name: torch.ones_like(v, dtype=torch.bool) for name, v in module.named_parameters()}
    mask[f"{block}.attn.c_proj.weight"][:8] = False  # the first of two heads
    mask[f"{block}.mlp.c_proj.weight"][[3, 5]] = False
    found = shrink(module, mask, {"input_ids": TOKENS})
    assert found.widths == {
        f"{block}.attn.c_attn": (48, 24), f"{block}.mlp.c_fc": (64, 62),
        f"{block}.attn.split_size": (16, 8),
    }  # fmt: skip
    assert found.module.transformer.h[0].attn.c_proj.nx == 8


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.memory = nn.Embedding(7, 8), nn.LSTM(8, 8, batch_first=True)
        self.hidden, self.weight = nn.Linear(8, 12), nn.Parameter(torch.randn(7, 12))

    def forward(self, tokens):
        states, _ = self.memory(self.embedding(tokens))
        return F.linear(torch.relu(self.hidden(states)), self.weight)


def test_what_no_rule_knows_stays_and_a_weight_without_a_layer_keeps_one_constant():
    module = trained(Language())
    module.hidden.bias.data.abs_()
    found = check(module, {"hidden.weight": rows(module.hidden, 1, 2, 5)}, TOKENS % 7)
    assert found.widths == {"hidden": (12, 10)}
    assert found.blocked["hidden"].startswith("1 dead stay: its constant fits no bias")


class Recurrent(nn.Module):
    """Gives a recurrent layer the data themselves, and another what a layer makes of them."""

    def __init__(self, kind):
        super().__init__()
        self.memory, self.first = kind(3, 6, batch_first=True), nn.Linear(6, 8)
        self.second, self.last = kind(8, 5, batch_first=True, bidirectional=True), nn.Linear(10, 2)

    def forward(self, x):
        found, _ = self.second(torch.relu(self.first(self.memory(x)[0])))
        return self.last(found[:, -1])


@pytest.mark.filterwarnings("ignore:.*assigned during export:UserWarning")
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_take_fewer_inputs_and_their_constants_into_each_bias(kind):
    module = trained(Recurrent(kind))
    mask = {"first.weight": rows(module.first, 1, 4)}
    module.first.bias.data[[1, 4]] = torch.tensor([-1.0, 0.5])  # behind a ReLU: nothing, and some
    example = torch.randn(2, 4, 3)
    found = check(module, mask, example)
    assert found.widths == {"first": (8, 6)}
    assert found.module.second.input_size == 6
    assert found.module.second.weight_ih_l0_reverse.shape[1] == 6
    program = torch.export.export(found.module, (example,)).module()
    torch.testing.assert_close(program(example), found.module(example))


@pytest.mark.parametrize(
    ("groups", "widths"),
    [(2, {"0": (8, 6), "1": (12, 10), "3": (4, 3)}), (4, {"0": (8, 6), "1": (12, 9), "3": (4, 3)})],
)
def test_transposed_convolutions_lose_whole_groups_and_as_many_of_each(groups, widths):
    module = trained(nn.Sequential(nn.Conv2d(1, 8, 1), nn.ConvTranspose2d(8, 12, 3, groups=groups),
                                   nn.ReLU(), nn.Conv2d(12, 4, 1), nn.Conv2d(4, 2, 1)))  # fmt: skip
    if groups == 2:  # one input and one output of each, of one more output besides
        inputs, outputs = [1, 6], [2, 3, 7]
    else:
        inputs, outputs = [2, 3], [3, 4, 5]
    mask = {"1.weight": rows(module[1], *inputs), "3.weight": rows(module[3], 2)}
    mask["3.weight"] &= columns(module[3], *outputs)
    found = check(module, mask, torch.randn(2, 1, 4, 4))
    assert found.widths == widths
    assert found.module[1].groups == (2 if groups == 2 else 3)


def test_heads_of_torchs_own_attention_stay_and_its_hidden_units_go():
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    module = trained(nn.TransformerEncoder(layer, 1, enable_nested_tensor=False))
    heads = columns(module.layers[0].self_attn.out_proj, 4, 5, 6, 7)
    mask = {
        "layers.0.self_attn.out_proj.weight": heads,
        "layers.0.linear1.weight": rows(module.layers[0].linear1, 3, 4),
    }
    found = check(module, mask, torch.randn(2, 5, 16))
    assert found.widths == {"layers.0.linear1": (32, 30)}
    assert "fixed size of its heads" in found.blocked["layers.0.self_attn"]


class Reduced(nn.Module):
    """Hears of each channel its spread, its mean, its largest and its smallest value."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv1d(3, 8, 3), nn.Linear(32, 2)

    def forward(self, x):
        x = self.first(x)
        return self.last(torch.cat([*torch.var_mean(x, 2), x.max(2).values, x.min(2)[0]], 1))


def test_channels_go_of_which_the_spread_and_the_largest_are_taken():
    module = trained(Reduced())
    mask = {"last.weight": columns(module.last, *(8 * i + j for i in range(4) for j in (2, 5)))}
    assert check(module, mask, torch.randn(2, 3, 9)).widths == {"first": (8, 6)}


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.shared(torch.tanh(self.shared(torch.tanh(self.first(x))))))


def test_of_a_layer_used_twice_a_unit_goes_only_where_it_is_dead_in_both_places():
    module = trained(Shared())
    mask = {"shared.weight": columns(module.shared, 1), "last.weight": columns(module.last, 1)}
    found = check(module, mask, torch.randn(2, 3))
    assert found.widths == {"first": (4, 3), "shared": (4, 3)}
    mask = {"first.weight": rows(module.first, 1), "shared.weight": rows(module.shared, 1)}
    assert check(module, mask, torch.randn(2, 3)).widths == {}  # two constants, and one bias


class Counting(nn.Module):
    """Counts on its sizes, as code outside this project may."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(3, 8), nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = torch.tanh(self.first(x)).view(-1, 8)
        return self.last(torch.tanh(self.second(x)))


class Looking(Counting):
    """Looks up what it has for its size, and fails in a way of its own."""

    def forward(self, x):
        x = torch.tanh(self.first(x))
        return self.last(torch.tanh(self.second(x * {8: 0.5}[x.shape[1]])))


@pytest.mark.parametrize("kind", [Counting, Looking])
@pytest.mark.parametrize("dead", [3, 8])  # of the first layer's eight units
def test_what_counts_on_its_size_stays_whole_and_is_named(kind, dead):
    module = trained(kind())
    mask = {
        "last.weight": columns(module.last, 0),
        "first.weight": rows(module.first, *range(dead)),
    }
    found = check(module, mask, torch.randn(2, 3))
    assert set(found.widths) == {"second"}  # fewer than 4
    assert "the smaller network fails" in found.blocked["first"]


class Noisy(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.5, training=True)


def test_what_cannot_be_shrunk_is_told():
    module = nn.Sequential(nn.Linear(3, 4), Noisy())
    with pytest.raises(UserError, match="answers the same input differently"):
        shrink(module, {}, torch.randn(2, 3))
    with pytest.raises(UserError, match=r"names 0.weights, .* did you mean 0.weight"):
        shrink(module, {"0.weights": torch.ones(4, 3, dtype=torch.bool)}, torch.randn(2, 3))
    with pytest.raises(UserError, match=r"shape \(3, 4\), but the network has \(4, 3\)"):
        shrink(module, {"0.weight": torch.ones(3, 4, dtype=torch.bool)}, torch.randn(2, 3))


def test_the_given_network_is_not_changed_and_the_new_one_is_plain():
    module = trained(nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(),
                                   nn.Flatten(), nn.Linear(4 * 16, 3)))  # fmt: skip
    module.train()
    module[1].eval()
    module[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    example, mask = torch.randn(2, 1, 6, 6), {"0.weight": rows(module[0], 1)}
    new = shrink(module, mask, example).module
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert [part.training for part in new] == [True, False, True, True, True]
    assert not new[0].weight.requires_grad
    assert new[4].weight.requires_grad
    file = io.BytesIO()
    torch.save(new.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True).keys() == new.state_dict().keys()


ADDED = {
    "weight_norm": nn.utils.parametrizations.weight_norm,
    "spectral_norm": nn.utils.parametrizations.spectral_norm,
    "older weight_norm": nn.utils.weight_norm,
    "older spectral_norm": nn.utils.spectral_norm,
    "prune": lambda layer: prune.random_unstructured(layer, "weight", 0.3),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("added", ADDED)
def test_what_computes_weights_is_carried_out_and_the_given_network_keeps_it(added):
    module = trained(nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)))
    ADDED[added](module[2])
    example, seen = torch.randn(4, 3), []
    module[0].register_forward_hook(lambda *given: seen.append(given))  # one that only watches
    module.train()(example)  # older ones leave a weight behind that is of this graph
    module.eval()
    before, names = module(example), set(module.state_dict())
    found = shrink(module, {"0.weight": rows(module[0], 1, 4)}, example)
    assert found.widths == {"0": (6, 4)}
    assert set(found.module.state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert pickle.dumps(found.module)  # nothing of the hooks is left
    assert torch.equal(module(example), before)
    assert set(module.state_dict()) == names
    module[0].weight.data[[1, 4]] = 0
    seen.clear()
    torch.testing.assert_close(found.module(example), module(example))
    assert len(seen) == 1


def test_a_hook_that_changes_what_is_answered_is_refused_by_name():
    module = trained(nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 2)))
    module[0].register_forward_hook(lambda part, given, answered: 2 * answered + 1)
    with pytest.raises(UserError, match=r"otherwise without the hooks of 0 \(Linear\)"):
        shrink(module, {"0.weight": rows(module[0], 1)}, torch.randn(2, 3))


@pytest.mark.parametrize("share", [0.0, 0.95])
def test_of_scattered_zeros_only_what_is_dead_goes(share):
    module = trained(nn.Sequential(nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 20), nn.ReLU(),
                                   nn.Linear(20, 3)))  # fmt: skip
    mask = dead_rows_and_columns(module, share=0, scattered=share)
    found = check(module, mask, torch.randn(2, 12))
    alive = mask["2.weight"].any(0) & mask["0.weight"].any(1)
    assert (found.widths == {}) == (share == 0)
    assert found.widths.get("0", (30, 30))[1] <= int(alive.sum())


def random_network(seed):
    """Draws a small network of all that the rules know."""
    draw = torch.Generator().manual_seed(seed)

    def pick(*options):
        return options[int(torch.randint(len(options), (), generator=draw))]

    width, layers = pick(4, 8), [nn.Conv2d(2, 8, 3, padding=pick(0, 1))]
    inputs = 8
    for _ in range(4):
        groups, kernel = pick(1, 1, 2, inputs), pick(1, 3)
        kind = pick("plain", "residual", "joined", "gated")
        layer = nn.Conv2d(inputs, inputs * pick(1, 2) if kind == "plain" else inputs, kernel,
                          padding=pick(0, kernel // 2) if kind == "plain" else kernel // 2,
                          groups=groups, bias=pick(True, False))  # fmt: skip
        norm = pick(nn.BatchNorm2d, nn.BatchNorm2d, lambda n: nn.GroupNorm(4, n), nn.Identity)
        act = pick(nn.ReLU, lambda: nn.ReLU(inplace=True), nn.Tanh, nn.Hardswish, nn.GELU)()
        layers.append(Block(layer, norm(layer.out_channels), act, kind))
        inputs = layer.out_channels * (2 if kind == "joined" else 1)
    end = pick([nn.AdaptiveAvgPool2d(1)], [nn.AdaptiveMaxPool2d(2)], [nn.PixelShuffle(2),
               nn.AdaptiveAvgPool2d(2)])  # fmt: skip
    module = nn.Sequential(*layers, *end, nn.Flatten(), nn.LazyLinear(width), nn.ELU(),
                           nn.Linear(width, 3))  # fmt: skip
    module.eval()(torch.randn(2, 2, 12, 12))
    return trained(module, seed=seed)


class Block(nn.Module):
    def __init__(self, layer, norm, activation, kind):
        super().__init__()
        self.layer, self.norm, self.activation, self.kind = layer, norm, activation, kind

    def forward(self, x):
        found = self.activation(self.norm(self.layer(x)))
        if self.kind == "residual":
            return found + x
        if self.kind == "joined":
            return torch.cat([x, found], 1)
        return found * x.sigmoid().mean((2, 3), keepdim=True) if self.kind == "gated" else found


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_answer_as_before_and_nothing_is_left_to_cut(seed):
    module = random_network(seed)
    share, scattered = (0.3, 0.0) if seed % 2 else (0.2, 0.4)
    mask = dead_rows_and_columns(module, share=share, scattered=scattered, seed=seed)
    example = torch.randn(2, 2, 12, 12)
    found = check(module, mask, example)
    assert found.num_parameters[1] < found.num_parameters[0]
    assert not any("answers differ" in why for why in found.blocked.values())
    assert shrink(found.module, {}, example).widths == {}


def test_torch_pruning_cuts_the_same_where_no_constant_moves():
    pruning = pytest.importorskip("torch_pruning")
    module = trained(models.resnet_cifar(depth=8, width=8, **IMAGE))
    dead = [1, 5, 6]
    block = module.stage1.block1
    layer, norm = block.conv1, block.norm1
    norm.bias.data[dead], norm.running_mean[dead] = -1.0, 0.0  # silent behind the ReLU
    example = torch.randn(2, 3, 16, 16)
    found = check(module, {"stage1.block1.conv1.weight": rows(layer, *dead)}, example)
    theirs = masked(module, {"stage1.block1.conv1.weight": rows(layer, *dead)})
    graph = pruning.DependencyGraph().build_dependency(theirs, example)
    graph.get_pruning_group(
        theirs.stage1.block1.conv1, pruning.prune_conv_out_channels, idxs=dead
    ).prune()
    ours = found.module.state_dict()
    assert ours.keys() == theirs.state_dict().keys()
    assert all(torch.equal(value, ours[name]) for name, value in theirs.state_dict().items())
