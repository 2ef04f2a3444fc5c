"""Several networks packed into one with a leading axis of replicates, in the same memory.

A slab is a tensor [replicates, values] that holds one parameter of all networks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.problem.gaussian_layers import is_drawn
from lth_runner.training.engines.compiled import (
    VECTOR,
    SurvivingLinear,
    Survivors,
    WholeLinear,
    padded,
)


def pack_networks(
    modules: Sequence[nn.Module], pack: Callable[[nn.Linear, int], nn.Module] | None = None
) -> nn.Module:
    """Makes one network over inputs [replicates, batch, ...] with the weights of all ``modules``.

    The modules' own parameters become views of it. ``pack`` makes a layer for so many networks, of
    numbers where it is not given.
    """
    num, make = len(modules), pack or Linear
    network = _with_replicates(copy.deepcopy(modules[0]), "", lambda layer, _: make(layer, num))
    return _share_memory(network, modules, ())


def pack_networks_compiled(
    modules: Sequence[nn.Module], sparse: Mapping[str, Survivors]
) -> nn.Module:
    """Makes the same network in compiled loops, which take samples in a multiple of SAMPLES.

    Samples lie feature by feature in memory. Of the weights named in ``sparse`` the network has
    room for the survivors, in memory of its own.
    """
    num = len(modules)

    def pack_linear(layer: nn.Linear, name: str) -> nn.Module:
        bias = None if layer.bias is None else new_slab(layer.bias, num)
        if name in sparse:
            kept = layer.weight.new_zeros(num, sparse[name].width)
            weight = nn.Parameter(kept, layer.weight.requires_grad)
            return SurvivingLinear(sparse[name], weight, bias)
        shape = layer.out_features, layer.in_features
        return WholeLinear(shape, new_slab(layer.weight, num), bias)

    return _share_memory(
        _with_replicates(copy.deepcopy(modules[0]), "", pack_linear), modules, sparse
    )


def _share_memory(
    network: nn.Module, modules: Sequence[nn.Module], apart: Container[str]
) -> nn.Module:
    """Turns the modules' parameters into views of the network's, all but those named."""
    slabs = dict(network.named_parameters())
    for index, module in enumerate(modules):
        for name, parameter in module.named_parameters():
            if name not in apart:
                view = slice_of(slabs[name].data, index, parameter)
                parameter.data = view.copy_(parameter.data)
    return network


def _with_replicates(
    module: nn.Module, path: str, pack_linear: Callable[[nn.Linear, str], nn.Module]
) -> nn.Module:
    if isinstance(module, nn.Linear) and (type(module) is nn.Linear or is_drawn(module)):
        return pack_linear(module, f"{path}weight")
    if isinstance(module, nn.Flatten):
        return nn.Flatten(*(d if d < 0 else d + 1 for d in (module.start_dim, module.end_dim)))
    for name, child in module.named_children():
        setattr(module, name, _with_replicates(child, f"{path}{name}.", pack_linear))
    return module


def new_slab(like: Tensor, num: int) -> nn.Parameter:
    """Makes a slab [num, like's values], padded with zeros to whole vectors."""
    values = like.new_zeros((num, padded(like.numel(), VECTOR)))
    return nn.Parameter(values, requires_grad=like.requires_grad)


class Linear(nn.Module):
    """Computes y[r] = x[r] W[r]^T + b[r]."""

    def __init__(self, like: nn.Linear, num: int) -> None:
        super().__init__()
        self._shape = like.out_features, like.in_features
        self.weight = new_slab(like.weight, num)
        self.bias = None if like.bias is None else new_slab(like.bias, num)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.products(inputs, self.weight, self.bias, self._shape)

    @staticmethod
    def products(
        inputs: Tensor, weight: Tensor, bias: Tensor | None, shape: tuple[int, int]
    ) -> Tensor:
        """Computes the layer by slabs of a weight and a bias."""
        if torch.is_autocast_enabled(inputs.device.type):
            products = torch.bmm(inputs, _matrices(weight, shape).transpose(1, 2))
            return products if bias is None else products + bias[:, : shape[0]].unsqueeze(1)
        found: Tensor = _Products.apply(inputs, weight, bias, shape)
        return found


def _matrices(slab: Tensor, shape: tuple[int, int]) -> Tensor:
    return slab[:, : shape[0] * shape[1]].view(len(slab), *shape)


class _Products(torch.autograd.Function):
    """A batched linear layer whose weight gradient comes in the weight's own layout.

    Autograd's comes transposed, and copying it costs half as much as computing it.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, shape: tuple[int, int]
    ) -> Tensor:
        ctx.save_for_backward(inputs, weight, bias)
        ctx.shape = shape
        matrices = _matrices(weight, shape).transpose(1, 2)
        if bias is None:
            return torch.bmm(inputs, matrices)
        return torch.baddbmm(bias[:, : shape[0]].unsqueeze(1), inputs, matrices)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        [outer] = upstream
        inputs, weight, bias = ctx.saved_tensors
        to_inputs, to_weight, to_bias, _ = ctx.needs_input_grad
        found: list[Tensor | None] = [None] * 4
        if to_inputs:
            found[0] = torch.bmm(outer, _matrices(weight, ctx.shape))
        if to_weight:
            found[1] = fresh = _empty_but_padding(weight, ctx.shape[0] * ctx.shape[1])
            torch.bmm(outer.transpose(1, 2), inputs, out=_matrices(fresh, ctx.shape))
        if to_bias:
            found[2] = fresh = _empty_but_padding(bias, ctx.shape[0])
            torch.sum(outer, 1, out=fresh[:, : ctx.shape[0]])
        return tuple(found)


def _empty_but_padding(slab: Tensor, used: int) -> Tensor:
    fresh = torch.empty_like(slab)
    fresh[:, used:] = 0
    return fresh


def slice_of(slab: Tensor, index: int, like: Tensor) -> Tensor:
    """Views one replicate's values of a slab in the shape of its own tensor."""
    return slab[index, : like.numel()].view(like.shape)
