"""Several networks as one with a leading axis of replicates, in the same memory."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.sparse import SparseLinear, Survivors

NONE_SPARSE: Mapping[str, Survivors] = {}


def stack(modules: Sequence[nn.Module], sparse: Mapping[str, Survivors] = NONE_SPARSE) -> nn.Module:
    """One network over inputs [replicates, batch, ...] with the weights of all ``modules``,

    whose own parameters become views of it, all but the weights named in ``sparse``: of these it
    has room for the survivors, in memory of its own.
    """
    network = _widened(copy.deepcopy(modules[0]), len(modules), "", sparse)
    slabs = dict(network.named_parameters())
    own = [dict(module.named_parameters()) for module in modules]
    for name, slab in slabs.items():
        for index, lane in enumerate(own if name not in sparse else ()):
            view = slice_of(slab.data, index, lane[name])
            lane[name].data = view.copy_(lane[name].data)
    return network


def _widened(module: nn.Module, num: int, path: str, sparse: Mapping[str, Survivors]) -> nn.Module:
    if type(module) is nn.Linear:
        survivors = sparse.get(f"{path}weight")
        return _Linear(module, num) if survivors is None else _sparse(module, num, survivors)
    if isinstance(module, nn.Flatten):
        return nn.Flatten(*(d if d < 0 else d + 1 for d in (module.start_dim, module.end_dim)))
    for name, child in module.named_children():
        setattr(module, name, _widened(child, num, f"{path}{name}.", sparse))
    return module


def _sparse(like: nn.Linear, num: int, survivors: Survivors) -> nn.Module:
    weight = nn.Parameter(like.weight.new_zeros(num, survivors.width), like.weight.requires_grad)
    return SparseLinear(survivors, weight, None if like.bias is None else _slab(like.bias, num))


# Vectorised kernels treat the last values of a tensor apart, by scalar code that rounds otherwise.
# Replicates padded to whole vectors have no such values, whoever lies beside them.
VECTOR = 64


def _slab(like: Tensor, num: int) -> nn.Parameter:
    """[num, like's values, padded with zeros to whole vectors]."""
    padded = -(-like.numel() // VECTOR) * VECTOR
    return nn.Parameter(like.new_zeros((num, padded)), requires_grad=like.requires_grad)


class _Linear(nn.Module):
    """y[r] = x[r] W[r]^T + b[r]."""

    def __init__(self, like: nn.Linear, num: int) -> None:
        super().__init__()
        self._shape = like.out_features, like.in_features
        self.weight = _slab(like.weight, num)
        self.bias = None if like.bias is None else _slab(like.bias, num)

    def forward(self, inputs: Tensor) -> Tensor:
        if torch.is_autocast_enabled(inputs.device.type):
            products = torch.bmm(inputs, _matrices(self.weight, self._shape).transpose(1, 2))
            if self.bias is None:
                return products
            return products + self.bias[:, : self._shape[0]].unsqueeze(1)
        found: Tensor = _Products.apply(inputs, self.weight, self.bias, self._shape)
        return found


def _matrices(slab: Tensor, shape: tuple[int, int]) -> Tensor:
    return slab[:, : shape[0] * shape[1]].view(len(slab), *shape)


class _Products(torch.autograd.Function):
    """A batched linear layer whose weight gradient comes in the weight's own layout: autograd's

    comes transposed, and copying it costs half as much as computing it.
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
    """One replicate's values of a slab, as a view in the shape of its own tensor."""
    return slab[index, : like.numel()].view(like.shape)
