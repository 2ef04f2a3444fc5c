"""Residual networks: CIFAR ResNets, ResNet-18, ResNet-50 and Wide ResNets."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from lth_runner.problem.models.parts import (
    check_depth,
    check_name,
    check_positive,
    image_shape,
    initialise,
    norm_layer,
)
from lth_runner.values.errors import UserError

STEMS = ("imagenet", "cifar")

Block = Callable[[int, int, int, str], nn.Module]  # (inputs, outputs, stride, norm)


def resnet_cifar(
    *,
    shape: Sequence[int],
    num_classes: int,
    depth: int = 20,
    width: int = 16,
    norm: str = "batch",
    init: str = "default",
    gamma: str = "one",
) -> nn.Module:
    """Builds a ResNet of three stages of (depth - 2) / 6 basic blocks for small images.

    The stages have width, 2 width and 4 width channels, with 1x1 projection shortcuts where the
    shape changes. ResNet-20 has 270,896 weights in 22 tensors on 3x32x32 with 10 classes.
    Raises UserError: `depth` not 6n + 2, unknown `norm`, `init` or `gamma`.
    He et al., CVPR 2016, arXiv:1512.03385; projections as in Frankle et al., ICML 2020,
    arXiv:1912.05671.
    """
    num_blocks = _blocks_per_stage(depth, extra=2, model="resnet_cifar")
    check_positive(width, what="width")
    channels, _, _ = image_shape(shape, model=f"resnet_cifar (depth {depth})")
    layers = _stem(channels, width, stem="cifar", norm=norm)
    stages = [(width * 2**i, num_blocks, 1 if i == 0 else 2) for i in range(3)]
    outputs = _add_stages(layers, width, stages, block=_BasicBlock, norm=norm)
    _add_classifier(layers, outputs, num_classes=num_classes)
    return initialise(nn.Sequential(layers), init=init, gamma=gamma)


def resnet18(
    *,
    shape: Sequence[int],
    num_classes: int,
    stem: str = "cifar",
    norm: str = "batch",
    init: str = "default",
    gamma: str = "one",
) -> nn.Module:
    """Builds ResNet-18: stages of 2, 2, 2, 2 basic blocks with 64, 128, 256, 512 channels.

    stem: cifar (3x3 convolution, no pool) or imagenet (7x7 convolution and 3x3 max-pool, both of
    stride 2). 11,164,352 weights on 3x32x32 with 10 classes.
    Raises UserError: unknown `stem`, `norm`, `init` or `gamma`.
    He et al., CVPR 2016, arXiv:1512.03385.
    """
    channels, _, _ = image_shape(shape, model="resnet18")
    layers = _stem(channels, 64, stem=stem, norm=norm)
    stages = [(64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)]
    outputs = _add_stages(layers, 64, stages, block=_BasicBlock, norm=norm)
    _add_classifier(layers, outputs, num_classes=num_classes)
    return initialise(nn.Sequential(layers), init=init, gamma=gamma)


def resnet50(
    *,
    shape: Sequence[int],
    num_classes: int,
    stem: str = "imagenet",
    norm: str = "batch",
    init: str = "default",
    gamma: str = "one",
) -> nn.Module:
    """Builds ResNet-50: stages of 3, 4, 6, 3 bottlenecks with 256, 512, 1024, 2048 channels.

    The stride is in the 3x3 convolution. stem: as `resnet18`. 25,557,032 parameters, of which
    25,502,912 weights, with 1000 classes.
    Raises UserError: unknown `stem`, `norm`, `init` or `gamma`.
    He et al., CVPR 2016, arXiv:1512.03385.
    """
    channels, _, _ = image_shape(shape, model="resnet50")
    layers = _stem(channels, 64, stem=stem, norm=norm)
    stages = [(256, 3, 1), (512, 4, 2), (1024, 6, 2), (2048, 3, 2)]
    outputs = _add_stages(layers, 64, stages, block=_Bottleneck, norm=norm)
    _add_classifier(layers, outputs, num_classes=num_classes)
    return initialise(nn.Sequential(layers), init=init, gamma=gamma)


def wide_resnet(
    *,
    shape: Sequence[int],
    num_classes: int,
    depth: int,
    width: int,
    norm: str = "batch",
    init: str = "default",
    gamma: str = "one",
) -> nn.Module:
    """Builds WRN-depth-width: three stages of (depth - 4) / 6 pre-activation blocks.

    The stages have 16, 32, 64 times width channels; no dropout. WRN-28-10 has 36,479,194
    parameters on 3x32x32 with 10 classes.
    Raises UserError: `depth` not 6n + 4, `width` below 1, unknown `norm`, `init` or `gamma`.
    Zagoruyko & Komodakis, BMVC 2016, arXiv:1605.07146.
    """
    num_blocks = _blocks_per_stage(depth, extra=4, model="wide_resnet")
    check_positive(width, what="width")
    channels, _, _ = image_shape(shape, model=f"wide_resnet (depth {depth}, width {width})")
    layers: OrderedDict[str, nn.Module] = OrderedDict(conv1=_conv(channels, 16, 3, 1, norm))
    stages = [(16 * width * 2**i, num_blocks, 1 if i == 0 else 2) for i in range(3)]
    outputs = _add_stages(layers, 16, stages, block=_PreActivationBlock, norm=norm)
    layers["norm"] = norm_layer(outputs, norm=norm)
    layers["relu"] = nn.ReLU()
    _add_classifier(layers, outputs, num_classes=num_classes)
    return initialise(nn.Sequential(layers), init=init, gamma=gamma)


class _BasicBlock(nn.Module):
    """Computes relu(norm(conv(relu(norm(conv x)))) + shortcut(x)), both 3x3."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        self.conv1 = _conv(inputs, outputs, 3, stride, norm)
        self.norm1 = norm_layer(outputs, norm=norm)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv(outputs, outputs, 3, 1, norm)
        self.norm2 = norm_layer(outputs, norm=norm)
        self.shortcut = _shortcut(inputs, outputs, stride, norm)
        self.relu2 = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.relu1(self.norm1(self.conv1(inputs)))
        output: Tensor = self.relu2(self.norm2(self.conv2(hidden)) + self.shortcut(inputs))
        return output


class _Bottleneck(nn.Module):
    """Convolves 1x1 to outputs / 4 channels, 3x3 (with the stride), 1x1 back, plus shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        narrow = outputs // 4
        self.conv1 = _conv(inputs, narrow, 1, 1, norm)
        self.norm1 = norm_layer(narrow, norm=norm)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv(narrow, narrow, 3, stride, norm)
        self.norm2 = norm_layer(narrow, norm=norm)
        self.relu2 = nn.ReLU()
        self.conv3 = _conv(narrow, outputs, 1, 1, norm)
        self.norm3 = norm_layer(outputs, norm=norm)
        self.shortcut = _shortcut(inputs, outputs, stride, norm)
        self.relu3 = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.relu1(self.norm1(self.conv1(inputs)))
        hidden = self.relu2(self.norm2(self.conv2(hidden)))
        output: Tensor = self.relu3(self.norm3(self.conv3(hidden)) + self.shortcut(inputs))
        return output


class _PreActivationBlock(nn.Module):
    """Computes conv(relu(norm(conv(a)))) + shortcut with a = relu(norm(x)).

    A projection reads a, not x.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: str) -> None:
        super().__init__()
        self.norm1 = norm_layer(inputs, norm=norm)
        self.relu1 = nn.ReLU()
        self.conv1 = _conv(inputs, outputs, 3, stride, norm)
        self.norm2 = norm_layer(outputs, norm=norm)
        self.relu2 = nn.ReLU()
        self.conv2 = _conv(outputs, outputs, 3, 1, norm)
        self.projects = stride != 1 or inputs != outputs
        self.shortcut = _conv(inputs, outputs, 1, stride, norm) if self.projects else nn.Identity()

    def forward(self, inputs: Tensor) -> Tensor:
        active = self.relu1(self.norm1(inputs))
        residual = self.conv2(self.relu2(self.norm2(self.conv1(active))))
        output: Tensor = residual + self.shortcut(active if self.projects else inputs)
        return output


def _conv(inputs: int, outputs: int, kernel: int, stride: int, norm: str) -> nn.Conv2d:
    return nn.Conv2d(
        inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=norm == "none"
    )


def _shortcut(inputs: int, outputs: int, stride: int, norm: str) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    conv = _conv(inputs, outputs, 1, stride, norm)
    return nn.Sequential(OrderedDict(conv=conv, norm=norm_layer(outputs, norm=norm)))


def _stem(channels: int, width: int, *, stem: str, norm: str) -> OrderedDict[str, nn.Module]:
    check_name(stem, STEMS, what="stem")
    large = stem == "imagenet"
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["conv1"] = _conv(channels, width, 7 if large else 3, 2 if large else 1, norm)
    layers["norm1"] = norm_layer(width, norm=norm)
    layers["relu1"] = nn.ReLU()
    if large:
        layers["pool1"] = nn.MaxPool2d(3, stride=2, padding=1)
    return layers


def _add_stages(
    layers: OrderedDict[str, nn.Module],
    inputs: int,
    stages: Sequence[tuple[int, int, int]],
    *,
    block: Block,
    norm: str,
) -> int:
    """Adds one stage of blocks per (channels, number of blocks, first stride); returns channels."""
    for i, (outputs, num_blocks, first_stride) in enumerate(stages, start=1):
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for j in range(1, num_blocks + 1):
            blocks[f"block{j}"] = block(inputs, outputs, first_stride if j == 1 else 1, norm)
            inputs = outputs
        layers[f"stage{i}"] = nn.Sequential(blocks)
    return inputs


def _add_classifier(layers: OrderedDict[str, nn.Module], inputs: int, *, num_classes: int) -> None:
    check_positive(num_classes, what="num_classes")
    layers["pool"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(inputs, num_classes)


def _blocks_per_stage(depth: int, *, extra: int, model: str) -> int:
    check_depth(depth)
    num_blocks, rest = divmod(depth - extra, 6)
    if rest or num_blocks < 1:
        near = max(1, round((depth - extra) / 6)) * 6 + extra
        raise UserError(
            f"{model} has no depth {depth}: it must be 6n + {extra} with n of at least 1; "
            f"the nearest is {near}."
        )
    return num_blocks
