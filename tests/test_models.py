"""Networks: published counts, shapes, names, initial values, and refusals."""

from __future__ import annotations

import inspect
import math
import re
from pathlib import Path

import pytest
import torch
from hydra.utils import get_method
from omegaconf import OmegaConf
from torch import nn

from lth_runner.problem import models
from lth_runner.problem.covers import Covers
from lth_runner.problem.models.parts import num_groups
from lth_runner.values.errors import UserError

CONF = Path(__file__).parents[1] / "conf" / "model"
MNIST = {"shape": [1, 28, 28], "num_classes": 10}
CIFAR = {"shape": [3, 32, 32], "num_classes": 10}
IMAGENET = {"shape": [3, 224, 224], "num_classes": 1000}

# factory, its arguments, weights (convolution and linear), all parameters
COUNTS = [
    (models.mlp, {"widths": [256, 256], **MNIST}, 268_800, 269_322),
    (models.lenet300, MNIST, 266_200, 266_610),
    (models.lenet5, MNIST, 430_500, 431_080),
    (models.conv, {"depth": 2, **CIFAR}, 4_300_992, 4_301_642),
    (models.conv, {"depth": 4, **CIFAR}, 2_425_024, 2_425_930),
    (models.conv, {"depth": 6, **CIFAR}, 2_261_184, 2_262_602),
    (models.resnet_cifar, {"depth": 20, **CIFAR}, 270_896, 272_474),
    (models.resnet_cifar, {"depth": 32, **CIFAR}, 464_432, 466_906),
    (models.resnet_cifar, {"depth": 56, **CIFAR}, 851_504, 855_770),
    (models.resnet18, CIFAR, 11_164_352, 11_173_962),
    (models.resnet18, {"stem": "imagenet", **IMAGENET}, 11_678_912, 11_689_512),
    (models.resnet50, IMAGENET, 25_502_912, 25_557_032),
    (models.vgg, {"depth": 11, **CIFAR}, 9_222_848, 9_228_362),
    (models.vgg, {"depth": 11, "width": 16, **CIFAR}, 577_712, 579_098),
    (models.vgg, {"depth": 16, **CIFAR}, 14_715_584, 14_724_042),
    (models.vgg, {"depth": 19, **CIFAR}, 20_024_000, 20_035_018),
    (models.wide_resnet, {"depth": 28, "width": 10, **CIFAR}, 36_461_232, 36_479_194),
    (models.wide_resnet, {"depth": 16, "width": 8, **CIFAR}, 10_954_160, 10_961_370),
    (models.wide_resnet, {"depth": 22, "width": 2, **CIFAR}, 1_076_912, 1_079_642),
]
# one small specimen of each family
SPECIMENS = [
    (models.mlp, {"widths": [40, 20], **MNIST}),
    (models.lenet300, MNIST),
    (models.lenet5, MNIST),
    (models.conv, {"depth": 2, "shape": [3, 8, 8], "num_classes": 10}),
    (models.resnet_cifar, {"depth": 8, "width": 4, **CIFAR}),
    (models.resnet18, {"shape": [3, 8, 8], "num_classes": 10}),
    (models.resnet50, {"shape": [3, 8, 8], "num_classes": 10, "stem": "cifar"}),
    (models.vgg, {"depth": 11, **CIFAR}),
    (models.wide_resnet, {"depth": 10, "width": 1, **CIFAR}),
]
CONVOLUTIONAL = SPECIMENS[2:]


def case_name(case):
    factory, arguments = case[:2]
    keys = [f"{k}{v}" for k, v in arguments.items() if k in ("depth", "width", "stem")]
    return "-".join([factory.__name__, *keys])


def on_meta(factory, **arguments):
    with torch.device("meta"):
        return factory(**arguments)


def sizes_of_prunable(module):
    tensors = dict(module.named_parameters())
    return [tensors[name].numel() for name in Covers().names(module)]


@pytest.mark.parametrize("case", COUNTS, ids=case_name)
def test_number_of_weights_and_parameters_is_as_published(case):
    factory, arguments, num_weights, num_parameters = case
    module = on_meta(factory, **arguments)
    assert sum(sizes_of_prunable(module)) == num_weights
    assert sum(p.numel() for p in module.parameters()) == num_parameters


def test_resnet20_has_the_22_tensors_of_openlth():
    sizes = sizes_of_prunable(on_meta(models.resnet_cifar, depth=20, **CIFAR))
    expected = [432, *[2304] * 6, 4608, *[9216] * 5, 18432, *[36864] * 5, 512, 2048, 640]
    assert sorted(sizes) == sorted(expected)
    assert (sizes[0], sizes[-1]) == (432, 640)


def test_lenet5_tensors_are_those_of_caffe():
    assert sizes_of_prunable(on_meta(models.lenet5, **MNIST)) == [500, 25_000, 400_000, 5_000]


@pytest.mark.parametrize("case", [*COUNTS, *SPECIMENS], ids=case_name)
@pytest.mark.parametrize("batch", [1, 3])
def test_forward_maps_a_batch_to_logits(case, batch):
    factory, arguments = case[:2]
    module = on_meta(factory, **arguments).eval()
    logits = module(torch.empty(batch, *arguments["shape"], device="meta"))
    assert logits.shape == (batch, arguments["num_classes"])


@pytest.mark.parametrize(
    ("factory", "arguments", "shape"),
    [
        (models.lenet5, {}, [2, 17, 40]),
        (models.conv, {"depth": 6}, [1, 9, 30]),
        (models.vgg, {"depth": 11}, [5, 16, 64]),
        (models.resnet_cifar, {"depth": 8}, [1, 28, 28]),
        (models.resnet50, {}, [4, 33, 65]),
        (models.wide_resnet, {"depth": 10, "width": 2}, [2, 7, 5]),
        (models.mlp, {"widths": [4]}, [11]),
    ],
)
def test_odd_shapes_fit(factory, arguments, shape):
    module = on_meta(factory, shape=shape, num_classes=3, **arguments).eval()
    assert module(torch.empty(2, *shape, device="meta")).shape == (2, 3)


@pytest.mark.parametrize("case", SPECIMENS, ids=case_name)
def test_the_classifier_is_called_output_and_comes_last(case):
    factory, arguments = case
    module = on_meta(factory, **arguments)
    assert Covers().names(module)[-1] == "output.weight"
    assert isinstance(module.output, nn.Linear)


@pytest.mark.parametrize("case", SPECIMENS, ids=case_name)
def test_prunable_names_follow_the_forward_pass(case):
    factory, arguments = case
    module = on_meta(factory, **arguments).eval()
    called = []
    names = Covers().names(module)
    for name in names:
        layer = module.get_submodule(name.removesuffix(".weight"))
        layer.register_forward_hook(lambda *_, name=name: called.append(name))
    module(torch.empty(2, *arguments["shape"], device="meta"))
    assert tuple(called) == names


@pytest.mark.parametrize("imagenet_net", ["resnet18", "resnet50"])
def test_resnets_compute_what_torchvision_computes(imagenet_net):
    reference_models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    reference = getattr(reference_models, imagenet_net)(weights=None, num_classes=5).eval()
    ours = getattr(models, imagenet_net)(shape=[3, 64, 64], num_classes=5, stem="imagenet").eval()
    ours.load_state_dict(dict(zip(ours.state_dict(), reference.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours(images), reference(images))


@pytest.mark.parametrize("case", SPECIMENS, ids=case_name)
def test_loss_can_be_differentiated_twice(case):
    factory, arguments = case
    torch.manual_seed(0)
    module = factory(**arguments)
    assert not any(getattr(m, "inplace", False) for m in module.modules())
    assert not any(isinstance(m, nn.modules.dropout._DropoutNd) for m in module.modules())
    weights = list(module.parameters())
    loss = module(torch.randn(4, *arguments["shape"])).square().mean()
    gradient = torch.autograd.grad(loss, weights, create_graph=True)
    sum(g.square().sum() for g in gradient).backward()
    assert all(torch.isfinite(w.grad).all() for w in weights if w.grad is not None)
    assert module.output.weight.grad.abs().sum() > 0


# ---- norm layers


@pytest.mark.parametrize("case", CONVOLUTIONAL, ids=case_name)
@pytest.mark.parametrize(
    ("norm", "kind"), [("batch", nn.BatchNorm2d), ("group", nn.GroupNorm), ("layer", nn.GroupNorm)]
)
def test_every_convolution_has_one_norm_and_no_bias(case, norm, kind):
    factory, arguments = case
    module = on_meta(factory, norm=norm, **arguments)
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    norms = [m for m in module.modules() if isinstance(m, (nn.BatchNorm2d, nn.GroupNorm))]
    assert all(c.bias is None for c in convolutions)
    assert all(type(n) is kind for n in norms)
    if factory is not models.wide_resnet:  # there, norms come first and projections have none
        assert len(norms) == len(convolutions)
    if norm == "layer":
        assert {n.num_groups for n in norms} == {1}


@pytest.mark.parametrize("case", CONVOLUTIONAL, ids=case_name)
def test_without_norm_every_convolution_has_a_bias(case):
    factory, arguments = case
    module = on_meta(factory, norm="none", **arguments)
    convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
    assert all(c.bias is not None for c in convolutions)
    assert not any(isinstance(m, (nn.BatchNorm2d, nn.GroupNorm)) for m in module.modules())


@pytest.mark.parametrize(
    ("channels", "groups"), [(64, 32), (32, 32), (16, 16), (20, 20), (48, 24), (50, 25), (37, 1)]
)
def test_group_count_is_32_or_the_largest_divisor_below(channels, groups):
    assert num_groups(channels) == groups


@pytest.mark.parametrize(
    ("norm", "kind"), [("batch", nn.BatchNorm1d), ("group", nn.GroupNorm), ("layer", nn.GroupNorm)]
)
def test_mlp_norms_its_hidden_layers(norm, kind):
    module = models.mlp(widths=[100, 64], norm=norm, **MNIST)
    assert type(module.norm1) is kind
    assert type(module.norm2) is kind
    assert module.linear1.bias is None
    assert module.output.bias is not None
    assert module(torch.randn(3, 1, 28, 28)).shape == (3, 10)


# ---- initial values


@pytest.mark.parametrize(
    ("init", "variance"),
    [
        ("kaiming_normal", lambda fan_in, _: 2 / fan_in),
        ("kaiming_uniform", lambda fan_in, _: 2 / fan_in),
        ("xavier_normal", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("xavier_uniform", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("default", lambda fan_in, _: 1 / (3 * fan_in)),
    ],
)
def test_weights_have_the_variance_of_their_init(init, variance):
    torch.manual_seed(0)
    module = models.conv(depth=2, init=init, shape=[3, 16, 16], num_classes=10)
    for layer, fan_in, fan_out in [
        (module.conv2, 64 * 9, 64 * 9),
        (module.linear1, 64 * 64, 256),
        (module.linear2, 256, 256),
    ]:
        expected = math.sqrt(variance(fan_in, fan_out))
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.02)
        bound = expected * math.sqrt(3)
        outside = (layer.weight.abs() > bound * 1.0001).float().mean().item()
        if init.endswith("normal"):
            assert outside == pytest.approx(math.erfc(math.sqrt(1.5)), abs=0.01)
        else:
            assert outside == 0


def test_a_cut_normal_law_has_the_variance_and_nothing_beyond_two_deviations_of_the_whole_one():
    torch.manual_seed(0)
    layer = models.conv(depth=2, init="lecun_truncated", shape=[3, 16, 16], num_classes=10).linear1
    std = math.sqrt(1 / (64 * 64))
    assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
    assert 2.2 * std < layer.weight.abs().max().item() <= 2 * std / 0.8796


def test_a_transposed_convolutions_fan_in_is_what_one_output_pixel_reads():
    torch.manual_seed(0)
    module = models.unet(shape=[1, 8, 8], num_classes=10, width=64, init="kaiming_normal")
    for up, inputs in (("1", 256), ("2", 128)):
        std = module.up[up].grow.weight.std().item()
        assert std == pytest.approx(math.sqrt(2 / inputs), rel=0.02)
    weight = models.unet(shape=[1, 8, 8], num_classes=10, init="orthogonal").up["1"].grow.weight
    flat = weight.flatten(1)  # 32 inputs, 16 channels of 4 places: columns cannot all be
    torch.testing.assert_close(flat @ flat.T, torch.eye(32))


def test_unet_answers_for_every_pixel_and_joins_what_lies_beside():
    module = on_meta(models.unet, shape=[2, 12, 20], num_classes=5, norm="batch").eval()
    assert module(torch.empty(3, 2, 12, 20, device="meta")).shape == (3, 5, 12, 20)
    names = Covers(types=["convolution", "transposed_convolution"]).names(module)
    assert [name for name in names if "grow" in name] == ["up.1.grow.weight", "up.2.grow.weight"]
    assert names[-1] == "output.weight"
    assert dict(module.named_parameters())["up.2.layers.conv1.weight"].shape[1] == 16
    with pytest.raises(UserError, match="multiples of 4"):
        models.unet(shape=[1, 10, 8], num_classes=2)
    with pytest.raises(UserError, match="depth must be a whole number"):
        models.unet(shape=[1, 8, 8], num_classes=2, depth=0)


def test_orthogonal_init_has_orthonormal_rows():
    module = models.mlp(widths=[50], init="orthogonal", **MNIST)
    torch.testing.assert_close(module.linear1.weight @ module.linear1.weight.T, torch.eye(50))


@pytest.mark.parametrize("init", ["kaiming_normal", "xavier_uniform", "orthogonal"])
def test_a_named_init_zeroes_biases_and_default_does_not(init):
    def biases(name):
        module = models.lenet5(init=name, **MNIST)
        return torch.cat([b for key, b in module.named_parameters() if key.endswith("bias")])

    assert biases(init).count_nonzero() == 0
    assert biases("default").count_nonzero() == 580


@pytest.mark.parametrize("norm", ["batch", "group", "layer"])
def test_gamma_is_one_or_uniform_and_beta_zero(norm):
    torch.manual_seed(0)
    for gamma in ("one", "uniform"):
        module = models.resnet_cifar(depth=8, norm=norm, gamma=gamma, **CIFAR)
        norms = [m for m in module.modules() if isinstance(m, (nn.BatchNorm2d, nn.GroupNorm))]
        scales = torch.cat([n.weight for n in norms])
        assert torch.cat([n.bias for n in norms]).count_nonzero() == 0
        if gamma == "one":
            assert torch.equal(scales, torch.ones_like(scales))
        else:
            assert scales.min() >= 0
            assert scales.max() < 1
            assert scales.mean().item() == pytest.approx(0.5, abs=0.05)
            assert scales.std().item() == pytest.approx(math.sqrt(1 / 12), abs=0.05)


@pytest.mark.parametrize("case", SPECIMENS, ids=case_name)
def test_same_seed_gives_the_same_weights_and_another_seed_others(case):
    factory, arguments = case

    def state(seed):
        torch.manual_seed(seed)
        return factory(init="kaiming_normal", gamma="uniform", **arguments).state_dict()

    first, again, other = state(3), state(3), state(4)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["output.weight"], other["output.weight"])


# ---- refusals


@pytest.mark.parametrize(
    ("factory", "arguments", "shape", "smallest"),
    [
        (models.lenet5, {}, [1, 8, 8], 16),
        (models.lenet5, {}, [1, 16, 15], 16),
        (models.conv, {"depth": 2}, [3, 1, 1], 2),
        (models.conv, {"depth": 4}, [3, 3, 8], 4),
        (models.conv, {"depth": 6}, [3, 7, 7], 8),
        (models.vgg, {"depth": 16}, [3, 8, 8], 16),
        (models.vgg, {"depth": 11}, [3, 32, 15], 16),
    ],
)
def test_too_small_images_are_refused_and_the_smallest_accepted(
    factory, arguments, shape, smallest
):
    with pytest.raises(UserError) as refusal:
        on_meta(factory, shape=shape, num_classes=10, **arguments)
    assert str(shape) in str(refusal.value)
    assert f"[1, {smallest}, {smallest}]" in str(refusal.value)
    module = on_meta(factory, shape=[1, smallest, smallest], num_classes=10, **arguments)
    assert module(torch.empty(2, 1, smallest, smallest, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("case", CONVOLUTIONAL, ids=case_name)
@pytest.mark.parametrize("shape", [[784], [32, 32], [1, 3, 32, 32], [0, 32, 32], [3, 32.0, 32]])
def test_shapes_other_than_channels_height_width_are_refused(case, shape):
    factory, arguments = case
    with pytest.raises(UserError, match=re.escape(str(shape))):
        on_meta(factory, **{**arguments, "shape": shape})


@pytest.mark.parametrize("case", SPECIMENS, ids=case_name)
@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"norm": "bach"}, "batch"),
        ({"init": "kaiming_norm"}, "kaiming_normal"),
        ({"gamma": "unifrom"}, "uniform"),
        ({"num_classes": 0}, "num_classes"),
    ],
)
def test_unknown_choices_are_refused_with_the_nearest(case, wrong, hint):
    factory, arguments = case
    with pytest.raises(UserError, match=hint):
        on_meta(factory, **{**arguments, **wrong})


@pytest.mark.parametrize(
    ("factory", "arguments", "message"),
    [
        (models.conv, {"depth": 5}, "2, 4, 6"),
        (models.vgg, {"depth": 17}, "11, 13, 16, 19"),
        (models.resnet_cifar, {"depth": 18}, "nearest is 20"),
        (models.resnet_cifar, {"depth": 2}, "nearest is 8"),
        (models.resnet_cifar, {"depth": 20, "width": 0}, "width"),
        (models.wide_resnet, {"depth": 20, "width": 2}, "nearest is 22"),
        (models.wide_resnet, {"depth": 22, "width": 1.5}, "width"),
        (models.resnet50, {"stem": "cifr"}, "cifar"),
        (models.mlp, {"widths": [300, 0]}, r"\[300, 0\]"),
        (models.mlp, {"widths": [20], "norm": "group"}, "groups of one unit"),
    ],
)
def test_impossible_sizes_are_refused(factory, arguments, message):
    with pytest.raises(UserError, match=message):
        on_meta(factory, **CIFAR, **arguments)


# ---- prunable names


class Assorted(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.line = nn.Conv1d(4, 4, 1)
        self.up = nn.ConvTranspose2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.volume = nn.Conv3d(4, 4, 1)
        self.attention = nn.MultiheadAttention(4, 1)
        self.first = nn.Linear(4, 4)
        self.twin = nn.Linear(4, 4)
        self.twin.weight = self.first.weight
        self.tied = nn.Linear(4, 5)
        self.tied.weight = self.embed.weight
        self.again = self.line


def test_prunable_names_are_convolution_and_linear_weights_once():
    module = Assorted()
    names = Covers().names(module)
    expected = ("line.weight", "volume.weight", "attention.out_proj.weight", "first.weight")
    assert names == expected
    assert set(names) <= set(dict(module.named_parameters()))


def test_a_bare_linear_layer_is_prunable():
    assert Covers().names(nn.Linear(2, 2)) == ("weight",)


# ---- torchvision


def torchvision_net(name, shape=(3, 64, 64), **options):
    pytest.importorskip("torchvision")
    return models.torchvision_classifier(name=name, shape=shape, num_classes=7, **options)


def test_torchvision_model_has_the_asked_classes_and_no_inplace_layer():
    module = torchvision_net("mobilenet_v3_small")
    assert not any(getattr(m, "inplace", False) for m in module.modules())
    assert all(p.device.type == "cpu" for p in module.parameters())
    assert module.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_torchvision_check_leaves_statistics_and_options_reach_the_model():
    module = torchvision_net("densenet121", drop_rate=0.25, memory_efficient=True)
    assert module.features.norm0.num_batches_tracked == 0
    assert module.features.denseblock1.denselayer1.drop_rate == 0.25


def test_torchvision_init_draws_weights_but_not_norms():
    torch.manual_seed(0)
    module = torchvision_net("resnet18", init="kaiming_normal", zero_init_residual=True)
    std = module.layer4[1].conv2.weight.std().item()
    assert std == pytest.approx(math.sqrt(2 / (512 * 9)), rel=0.02)
    assert module.layer4[1].bn2.weight.count_nonzero() == 0


@pytest.mark.parametrize(
    ("name", "shape", "options", "message"),
    [
        ("resnet181", (3, 64, 64), {}, "resnet18"),
        ("resnet18", (1, 64, 64), {}, "3 channels"),
        ("resnet18", (64, 64), {}, r"\[64, 64\]"),
        ("resnet18", (3, 64, 64), {"zero_init": True}, "zero_init"),
        ("resnet18", (3, 64, 64), {"init": "kaiming"}, "kaiming_normal"),
        ("squeezenet1_1", (3, 8, 8), {}, r"\[3, 8, 8\].*\[3, 32, 32\]"),
        ("googlenet", (3, 64, 64), {"init_weights": False}, "aux_logits"),
    ],
)
def test_torchvision_refusals_say_what_is_accepted(name, shape, options, message):
    with pytest.raises(UserError, match=message):
        torchvision_net(name, shape=shape, **options)


# ---- conf/model


SCENES = {"shape": [1, 16, 16], "num_classes": 10}
SENTENCES = {"vocabulary": 4000, "length": 32, "num_classes": 2}
CHARACTERS = {"vocabulary": 128, "length": 32}
HOMES = {
    "unet": SCENES,
    "mlp": MNIST,
    "lenet300": MNIST,
    "lenet5": MNIST,
    "resnet50": IMAGENET,
    "transformer": SENTENCES,
    "causal_transformer": CHARACTERS,
    "masked_transformer": CHARACTERS,
    "velocity": {"shape": [99], "num_conditions": 0},
}


def config_of(path):
    root = OmegaConf.create({"dataset": HOMES.get(path.stem, CIFAR), "model": {}})
    own = OmegaConf.load(path)
    [first, *_] = own.pop("defaults", [None])  # another file, of which this one is a variant
    others = [] if first is None else [OmegaConf.load(path.with_name(f"{first}.yaml"))]
    root.model = OmegaConf.merge(*others, own)
    return root.model


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda path: path.stem)
def test_config_binds_to_its_function_and_states_its_weight_count(path):
    config = config_of(path)
    assert path.read_text().startswith("# ")
    if path.stem == "custom":
        assert set(config) == {"_target_", "shape", "num_classes"}
        assert OmegaConf.is_missing(config, "_target_")
        return
    if path.stem == "torchvision":
        assert OmegaConf.is_missing(config, "name")
        config.name = "resnet50"
    if path.stem == "hf":  # whose folder tells the rest
        assert OmegaConf.is_missing(config, "path")
        config.path = "models/minilm"
    arguments = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    target = arguments.pop("_target_")
    assert target.startswith("lth_runner.problem.models.")
    factory = get_method(target)
    bound = inspect.signature(factory).bind(**arguments)
    extra = {
        key
        for key, parameter in bound.signature.parameters.items()
        if parameter.kind is inspect.Parameter.VAR_KEYWORD
    }
    assert set(bound.signature.parameters) - extra == set(arguments)
    if path.stem not in ("torchvision", "hf"):
        count = f"{sum(sizes_of_prunable(on_meta(factory, **arguments))):,}"
        assert f"{count} weights" in path.read_text()
