"""Convolutional networks without shortcuts: LeNet-5, Conv-2, Conv-4, Conv-6 and VGG."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from torch import nn

from lth_runner.problem.models.parts import (
    activation_layer,
    check_positive,
    image_shape,
    initialise,
    norm_layer,
)
from lth_runner.values.errors import UserError

# One tuple per stage: the output channels of its convolutions. A 2x2 pool ends a stage.
Plan = tuple[tuple[int, ...], ...]

CONV_PLANS: Mapping[int, Plan] = MappingProxyType(
    {
        2: ((64, 64),),
        4: ((64, 64), (128, 128)),
        6: ((64, 64), (128, 128), (256, 256)),
    }
)
VGG_PLANS: Mapping[int, Plan] = MappingProxyType(
    {
        11: ((64,), (128,), (256,) * 2, (512,) * 2, (512,) * 2),
        13: ((64,) * 2, (128,) * 2, (256,) * 2, (512,) * 2, (512,) * 2),
        16: ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3),
        19: ((64,) * 2, (128,) * 2, (256,) * 4, (512,) * 4, (512,) * 4),
    }
)


def lenet5(
    *,
    shape: Sequence[int],
    num_classes: int,
    norm: str = "none",
    init: str = "default",
    gamma: str = "one",
    activation: str = "relu",
) -> nn.Module:
    """Builds LeNet-5 as shipped with Caffe.

    Layers: conv 5x5 20, pool, conv 5x5 50, pool, linear 500, output.
    430,500 weights (431,080 with biases) on 1x28x28 with 10 classes. ReLU after each hidden layer,
    where Caffe's own has one after the linear layer only; convolutions are not padded.
    Raises UserError: sides below 16, unknown `norm`, `init`, `gamma` or `activation`.
    LeCun et al., Proc. IEEE 1998; variant used by Lee et al., ICLR 2019, arXiv:1810.02340.
    """
    channels, height, width = image_shape(shape, model="lenet5", smallest=16)
    layers = _features(
        channels, ((20,), (50,)), kernel=5, padding=0, norm=norm, num_pools=2, activation=activation
    )
    area = _lenet5_side(height) * _lenet5_side(width)
    _add_classifier(
        layers, 50 * area, hidden=(500,), num_classes=num_classes, activation=activation
    )
    return initialise(nn.Sequential(layers), init=init, gamma=gamma)


def conv(
    *,
    shape: Sequence[int],
    num_classes: int,
    depth: int,
    norm: str = "none",
    init: str = "default",
    gamma: str = "one",
    activation: str = "relu",
) -> nn.Module:
    """Builds Conv-2, Conv-4 or Conv-6: pairs of 3x3 convolutions, then linear 256, 256.

    A 2x2 max-pool follows each pair.
    4,300,992, 2,425,024 or 2,261,184 weights on 3x32x32 with 10 classes.
    Raises UserError: `depth` not 2, 4 or 6, sides below 2, 4 or 8, unknown `norm`, `init`,
    `gamma` or `activation`.
    Frankle & Carbin, ICLR 2019, arXiv:1803.03635 (figure 2).
    """
    plan = _plan(CONV_PLANS, depth, model="conv")
    shrink = 2 ** len(plan)
    channels, height, width = image_shape(shape, model=f"conv (depth {depth})", smallest=shrink)
    layers = _features(
        channels, plan, kernel=3, padding=1, norm=norm, num_pools=len(plan), activation=activation
    )
    area = (height // shrink) * (width // shrink)
    _add_classifier(
        layers,
        plan[-1][-1] * area,
        hidden=(256, 256),
        num_classes=num_classes,
        activation=activation,
    )
    return initialise(nn.Sequential(layers), init=init, gamma=gamma)


def vgg(
    *,
    shape: Sequence[int],
    num_classes: int,
    depth: int = 16,
    width: int = 64,
    norm: str = "batch",
    init: str = "default",
    gamma: str = "one",
    activation: str = "relu",
) -> nn.Module:
    """Builds VGG for small images: five stages of 3x3 convolutions and one linear layer.

    A 2x2 max-pool follows each of the first four stages, a global average pool the fifth.
    VGG-16 has 14,715,584 weights on 3x32x32 with 10 classes. `width`: channels of the first
    convolution, in proportion to which the others have theirs.
    Raises UserError: `depth` not 11, 13, 16 or 19, `width` below 1, sides below 16, unknown `norm`,
    `init`, `gamma` or `activation`.
    Simonyan & Zisserman, ICLR 2015, arXiv:1409.1556; this form as in Frankle et al., ICML 2020,
    arXiv:1912.05671.
    """
    check_positive(width, what="width (published: 64)")
    published = _plan(VGG_PLANS, depth, model="vgg")
    plan = tuple(tuple(num * width // 64 for num in stage) for stage in published)
    channels, _, _ = image_shape(shape, model=f"vgg (depth {depth})", smallest=16)
    layers = _features(
        channels, plan, kernel=3, padding=1, norm=norm, num_pools=4, activation=activation
    )
    layers["pool5"] = nn.AdaptiveAvgPool2d(1)
    _add_classifier(layers, plan[-1][-1], hidden=(), num_classes=num_classes, activation=activation)
    return initialise(nn.Sequential(layers), init=init, gamma=gamma)


def _plan(plans: Mapping[int, Plan], depth: int, *, model: str) -> Plan:
    if depth not in plans:
        raise UserError(f"{model} has no depth {depth!r}; accepted: {', '.join(map(str, plans))}.")
    return plans[depth]


def _lenet5_side(side: int) -> int:
    return ((side - 4) // 2 - 4) // 2


def _features(
    channels: int,
    plan: Plan,
    *,
    kernel: int,
    padding: int,
    norm: str,
    num_pools: int,
    activation: str,
) -> OrderedDict[str, nn.Module]:
    """Builds conv1, norm1, relu1, conv2, ... with pool1, ... after the first `num_pools` stages."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    i = 0
    for stage, widths in enumerate(plan, start=1):
        for width in widths:
            i += 1
            layers[f"conv{i}"] = nn.Conv2d(
                channels, width, kernel, padding=padding, bias=norm == "none"
            )
            layers[f"norm{i}"] = norm_layer(width, norm=norm)
            layers[f"relu{i}"] = activation_layer(activation)
            channels = width
        if stage <= num_pools:
            layers[f"pool{stage}"] = nn.MaxPool2d(2)
    return layers


def _add_classifier(
    layers: OrderedDict[str, nn.Module],
    inputs: int,
    *,
    hidden: tuple[int, ...],
    num_classes: int,
    activation: str,
) -> None:
    check_positive(num_classes, what="num_classes")
    layers["flatten"] = nn.Flatten()
    for i, width in enumerate(hidden, start=1):
        layers[f"linear{i}"] = nn.Linear(inputs, width)
        layers[f"linear_relu{i}"] = activation_layer(activation)
        inputs = width
    layers["output"] = nn.Linear(inputs, num_classes)
