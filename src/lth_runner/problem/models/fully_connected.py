"""Multilayer perceptrons, LeNet-300-100 among them."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from lth_runner.problem.models.parts import activation_layer, check_positive, initialise, norm_layer
from lth_runner.values.errors import UserError


def mlp(
    *,
    shape: Sequence[int],
    num_classes: int,
    widths: Sequence[int],
    norm: str = "none",
    init: str = "default",
    gamma: str = "one",
    activation: str = "relu",
) -> nn.Module:
    """Builds a perceptron prod(shape) -> widths... -> num_classes.

    Linear (+ norm) + ReLU per width: linear1, norm1, relu1, linear2, ..., output; a linear layer
    before a norm has no bias.
    `shape` may have any number of dimensions, `widths` may be empty (a linear classifier).
    Raises UserError: a size or width below 1, unknown `norm`, `init`, `gamma` or `activation`.
    """
    sizes = tuple(shape)
    if not sizes:
        raise UserError("mlp cannot take inputs of shape []: the smallest is [1].")
    for size in sizes:
        check_positive(size, what=f"Each size of the input shape {list(sizes)}")
    for width in widths:
        check_positive(width, what=f"Each of the widths {list(widths)}")
    check_positive(num_classes, what="num_classes")
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    inputs = math.prod(sizes)
    for i, width in enumerate(widths, start=1):
        layers[f"linear{i}"] = nn.Linear(inputs, width, bias=norm == "none")
        layers[f"norm{i}"] = norm_layer(width, norm=norm, flat=True)
        layers[f"relu{i}"] = activation_layer(activation)
        inputs = width
    layers["output"] = nn.Linear(inputs, num_classes)
    return initialise(nn.Sequential(layers), init=init, gamma=gamma)


def lenet300(
    *,
    shape: Sequence[int],
    num_classes: int,
    norm: str = "none",
    init: str = "default",
    gamma: str = "one",
    activation: str = "relu",
) -> nn.Module:
    """Builds LeNet-300-100, an `mlp` of widths (300, 100).

    266,200 weights on 28x28 with 10 classes. Raises UserError: as `mlp`.
    LeCun et al., Proc. IEEE 1998.
    """
    return mlp(
        shape=shape,
        num_classes=num_classes,
        widths=(300, 100),
        norm=norm,
        init=init,
        gamma=gamma,
        activation=activation,
    )
