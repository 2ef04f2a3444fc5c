"""What all networks share: norm layers, activations, initial values and checks of options."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from lth_runner.values.errors import UserError, nearest

MAX_GROUPS = 32
MAX_DEPTH = 10_000  # ten times the deepest that was ever published
NORMS = ("batch", "group", "layer", "none")
GAMMAS = ("one", "uniform")
CUT = 0.8796256610342398  # std of a standard normal law cut at two deviations
ACTIVATIONS = ("relu", "sign")


def signed_constant(weight: Tensor) -> Tensor:
    """Fills a tensor in place with sqrt(2/fan_in), the signs drawn at random."""
    nn.init.kaiming_normal_(weight)
    size = math.sqrt(2 / weight[0].numel())
    return weight.data.copy_(torch.where(weight >= 0, size, -size))


def truncated_lecun(weight: Tensor) -> Tensor:
    """Draws a tensor in place from a normal law cut at two deviations, of std sqrt(1/fan_in)."""
    std = math.sqrt(1 / weight[0].numel()) / CUT
    return nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


INITS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "kaiming_normal": nn.init.kaiming_normal_,
        "kaiming_uniform": nn.init.kaiming_uniform_,
        "xavier_normal": nn.init.xavier_normal_,
        "xavier_uniform": nn.init.xavier_uniform_,
        "lecun_truncated": truncated_lecun,
        "orthogonal": nn.init.orthogonal_,
        "signed_constant": signed_constant,
    }
)


def num_groups(channels: int) -> int:
    """Finds GroupNorm's number of groups: 32, or else the largest divisor of `channels` below."""
    return max(g for g in range(1, min(MAX_GROUPS, channels) + 1) if channels % g == 0)


def norm_layer(channels: int, *, norm: str, flat: bool = False) -> nn.Module:
    """Builds the norm layer for (N, channels, H, W) inputs, or for (N, channels) ones if `flat`.

    batch: BatchNorm; group: GroupNorm of `num_groups(channels)` groups (Wu & He, ECCV 2018,
    arXiv:1803.08494); layer: GroupNorm of one group; none: identity.
    Raises UserError: unknown `norm`, or groups of a single value, which would all become zero.
    """
    check_name(norm, NORMS, what="norm")
    if norm == "none":
        return nn.Identity()
    if norm == "batch":
        return nn.BatchNorm1d(channels) if flat else nn.BatchNorm2d(channels)
    groups = num_groups(channels) if norm == "group" else 1
    if flat and groups == channels:
        raise UserError(
            f"norm={norm} on {channels} flat units makes groups of one unit, whose normalised "
            f"value is always 0; use a width above {MAX_GROUPS} with a divisor of at most "
            f"{MAX_GROUPS}, or another norm ({', '.join(NORMS)})."
        )
    return nn.GroupNorm(groups, channels)


class Sign(nn.Module):
    """Computes sign(x), 0 at 0, with the gradient of x clipped to [-1, 1].

    Binary activations as in Hubara et al., NeurIPS 2016, arXiv:1602.02830.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        clipped = inputs.clamp(-1, 1)
        return clipped + (inputs.sign() - clipped).detach()


def activation_layer(activation: str) -> nn.Module:
    """Builds what follows a hidden layer, relu or `Sign`; raises UserError for another word."""
    check_name(activation, ACTIVATIONS, what="activation")
    return Sign() if activation == "sign" else nn.ReLU()


def initialise(module: nn.Module, *, init: str, gamma: str) -> nn.Module:
    """Draws the weights, and sets norm scales to 1 or U(0, 1) and their shifts to 0.

    `init`: as `initialise_weights`; `gamma`: one or uniform. Raises UserError for other words.
    """
    check_name(gamma, GAMMAS, what="gamma")
    initialise_weights(module, init=init)
    for layer in module.modules():
        if isinstance(layer, (_BatchNorm, nn.GroupNorm)):
            nn.init.zeros_(layer.bias)
            if gamma == "uniform":
                nn.init.uniform_(layer.weight)
            else:
                nn.init.ones_(layer.weight)
    return module


def initialise_weights(module: nn.Module, *, init: str) -> nn.Module:
    """Draws the weights of all convolution and linear layers in place; returns `module`.

    The law's std (normal) or bound (uniform), fan_in being the inputs of one output unit:
    kaiming_normal sqrt(2/fan_in), kaiming_uniform sqrt(6/fan_in) (He et al., ICCV 2015,
    arXiv:1502.01852); xavier_normal sqrt(2/(fan_in+fan_out)), xavier_uniform
    sqrt(6/(fan_in+fan_out)) (Glorot & Bengio, AISTATS 2010); orthogonal with gain 1 (Saxe et al.,
    ICLR 2014, arXiv:1312.6120); signed_constant +-sqrt(2/fan_in) (Ramanujan et al., CVPR 2020,
    arXiv:1911.13299); lecun_truncated sqrt(1/fan_in), cut at two deviations before (TensorFlow's
    variance scaling, as the authors of SNIP have it). All seven zero the biases; `default` leaves
    weights and biases as the layers drew them.
    Raises UserError: unknown `init`.
    """
    check_name(init, ("default", *INITS), what="init")
    if init == "default":
        return module
    for layer in module.modules():
        if isinstance(layer, (_ConvNd, nn.Linear)):
            INITS[init](_by_output(layer))
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module


def _by_output(layer: nn.Module) -> Tensor:
    """Views a layer's weight as (out, in, *kernel), whose inputs are those of one output unit.

    A transposed convolution holds (in, out, *kernel); where its stride is its kernel, each place
    of the kernel is an output unit of its own, with one input of every channel.
    """
    weight: Tensor = layer.weight.detach()  # type: ignore[operator]
    if not isinstance(layer, _ConvTransposeNd):
        return weight
    apart = layer.kernel_size == layer.stride and layer.groups == 1
    return weight.flatten(1).T if apart else weight.transpose(0, 1)


def check_name(value: str, known: Iterable[str], *, what: str) -> None:
    """Raises UserError unless `value` is one of the `known` names of a `what`."""
    names = tuple(known)
    if value not in names:
        raise UserError(f"Unknown {what} {value!r}: {nearest(str(value), names)}")


def check_positive(value: int, *, what: str) -> None:
    """Raises UserError unless `value` is a whole number above 0."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UserError(f"{what} must be a whole number of at least 1, not {value!r}.")


def check_depth(depth: int, *, what: str = "depth") -> None:
    """Raises UserError unless `depth` is a whole number above 0 and no more than MAX_DEPTH."""
    check_positive(depth, what=what)
    if depth > MAX_DEPTH:
        raise UserError(f"{what}={depth}: give at most {MAX_DEPTH}.")


def image_shape(shape: Sequence[int], *, model: str, smallest: int = 1) -> tuple[int, int, int]:
    """Reads `shape` as (channels, height, width).

    Raises UserError: not three whole numbers above 0, or a side below `smallest`.
    """
    sizes = tuple(shape)
    whole = all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
    if len(sizes) != 3 or not whole or min(sizes[1:]) < smallest or sizes[0] < 1:
        raise UserError(
            f"{model} cannot take inputs of shape {list(sizes)}: it needs "
            f"[channels, height, width], the smallest being [1, {smallest}, {smallest}]. "
            "Choose another model or larger images."
        )
    return sizes[0], sizes[1], sizes[2]
