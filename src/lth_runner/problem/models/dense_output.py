"""A fully convolutional network that answers with the classes of every pixel."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lth_runner.problem.models.parts import (
    activation_layer,
    check_positive,
    image_shape,
    initialise,
    norm_layer,
)
from lth_runner.values.errors import UserError

MAX_HALVINGS = 16


class UNet(nn.Module):
    """Halves and doubles an image's sides, each doubling beside what was there before the halving.

    ``down.1``, ``down.2``, ...: two 3x3 convolutions each, a 2x2 pool between them and twice the
    channels; ``up.1``, ...: a transposed 2x2 convolution, ``grow``, and two 3x3 ones;
    ``output`` is 1x1.
    """

    def __init__(
        self, channels: int, num_classes: int, *, width: int, depth: int, norm: str, activation: str
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.pool = nn.MaxPool2d(2)
        self.down, self.up = nn.ModuleDict(), nn.ModuleDict()
        for level, outputs in enumerate(widths, start=1):
            self.down[str(level)] = _convolutions(channels, outputs, norm, activation)
            channels = outputs
        for level, outputs in enumerate(reversed(widths[:-1]), start=1):
            self.up[str(level)] = _Doubled(channels, outputs, norm, activation)
            channels = outputs
        self.output = nn.Conv2d(channels, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        before: list[Tensor] = []
        for level, down in enumerate(self.down.values()):
            before.append(down(self.pool(before[-1]) if level else images))
        found = before.pop()
        for up in self.up.values():
            found = up(found, before.pop())
        answer: Tensor = self.output(found)
        return answer


class _Doubled(nn.Module):
    """Doubles the sides, and convolves what comes out together with what lies beside it."""

    def __init__(self, inputs: int, outputs: int, norm: str, activation: str) -> None:
        super().__init__()
        self.grow = nn.ConvTranspose2d(inputs, outputs, 2, stride=2)
        self.layers = _convolutions(2 * outputs, outputs, norm, activation)

    def forward(self, found: Tensor, beside: Tensor) -> Tensor:
        answer: Tensor = self.layers(torch.cat((beside, self.grow(found)), dim=1))
        return answer


def unet(
    *,
    shape: Sequence[int],
    num_classes: int,
    width: int = 8,
    depth: int = 2,
    norm: str = "none",
    init: str = "default",
    gamma: str = "one",
    activation: str = "relu",
) -> nn.Module:
    """Builds a small U-Net: [channels, height, width] -> [num_classes, height, width].

    ``width`` channels at full size, ``depth`` halvings. Convolutions are padded, where the paper's
    shrink the image. 29,208 weights on 1x16x16 with 10 classes, 2,560 of them in transposed
    convolutions.
    Raises UserError: sides that ``depth`` halvings do not divide, a size below 1, unknown `norm`,
    `init`, `gamma` or `activation`.
    Ronneberger, Fischer & Brox, MICCAI 2015, arXiv:1505.04597.
    """
    for key, value in (("num_classes", num_classes), ("width", width), ("depth", depth)):
        check_positive(value, what=key)
    if depth > MAX_HALVINGS:
        raise UserError(
            f"depth={depth}: it halves the sides of images: give at most {MAX_HALVINGS}."
        )
    channels, height, across = image_shape(shape, model=f"unet (depth {depth})", smallest=2**depth)
    if height % 2**depth or across % 2**depth:
        raise UserError(
            f"unet (depth {depth}) cannot take images of {height} x {across}: it halves their "
            f"sides {depth} times, so give multiples of {2**depth}, or another model.depth"
        )
    net = UNet(channels, num_classes, width=width, depth=depth, norm=norm, activation=activation)
    return initialise(net, init=init, gamma=gamma)


def _convolutions(inputs: int, outputs: int, norm: str, activation: str) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in (1, 2):
        layers[f"conv{number}"] = nn.Conv2d(inputs, outputs, 3, padding=1, bias=norm == "none")
        layers[f"norm{number}"] = norm_layer(outputs, norm=norm)
        layers[f"relu{number}"] = activation_layer(activation)
        inputs = outputs
    return nn.Sequential(layers)
