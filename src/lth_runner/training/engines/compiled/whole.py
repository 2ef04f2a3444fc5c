"""Whole linear layers for several replicates at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lth_runner.training.engines.compiled.batches import feature_major, padded, pointer
from lth_runner.training.engines.compiled.library import SAMPLES, library


class WholeLinear(nn.Module):
    """Computes y[r] = x[r] W[r]^T + b[r] over inputs [replicates, samples, in].

    ``weight`` [replicates, at least out * in] and ``bias`` [replicates, at least out] hold each
    replicate's values, zeros behind them; ``shape`` is (out, in). Samples come in a multiple of
    SAMPLES. Cheapest where they lie feature by feature in memory, as the outputs do.

    ``fuses_step``: the backward pass makes no gradient of the weight but keeps its operands, for
    ``fused_step``.
    """

    def __init__(
        self, shape: tuple[int, int], weight: nn.Parameter, bias: nn.Parameter | None
    ) -> None:
        super().__init__()
        self.shape, self.weight, self.bias = shape, weight, bias
        self.fuses_step = False
        self._operands: list[tuple[Tensor, Tensor]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = _Products.apply(inputs, self.weight, self.bias, self)
        return found

    def keep_operands(self, features: Tensor, outer: Tensor) -> None:
        """Keeps what one use of the layer would make its gradient of, feature by feature."""
        self._operands.append((features, outer))

    def take_operands(self) -> tuple[Tensor, Tensor] | None:
        """Hands out inputs and upstream gradients of all uses since the last time, as one batch."""
        kept, self._operands = self._operands, []
        if len(kept) < 2:
            return kept[0] if kept else None
        features, outer = (torch.cat(parts, 2) for parts in zip(*kept, strict=True))
        return features, outer


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, layer: WholeLinear
    ) -> Tensor:
        shape = layer.shape
        features = feature_major(inputs, shape[1])
        ctx.save_for_backward(features, weight, bias)
        ctx.layer = layer
        return _multiply(weight, shape, (shape[1], 1), bias, features).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias = ctx.saved_tensors
        layer: WholeLinear = ctx.layer
        num_rows, num_columns = layer.shape
        outer = feature_major(upstream[0], num_rows)
        to_inputs, to_weight, to_bias, _ = ctx.needs_input_grad
        found: list[Tensor | None] = [None] * 4
        if to_inputs:
            back = num_columns, num_rows
            found[0] = _multiply(weight, back, (1, num_columns), None, outer).transpose(1, 2)
        if to_weight and layer.fuses_step:
            layer.keep_operands(features, outer)
        elif to_weight:
            found[1] = to_whole = torch.empty_like(weight)
            to_whole[:, num_rows * num_columns :] = 0  # what the padding's would be
            _weight_gradient(layer.shape, to_whole, features, outer)
        if to_bias:
            found[2] = torch.zeros_like(bias)
            num, _, samples = outer.shape
            library().lth_total(num, num_rows, samples, *pointer(found[2]), *pointer(outer))
        return tuple(found)


def _multiply(
    weight: Tensor,
    shape: tuple[int, int],
    strides: tuple[int, int],
    bias: Tensor | None,
    features: Tensor,
) -> Tensor:
    """Multiplies matrices, whose rows and columns lie ``strides`` apart, with a batch."""
    num, _, samples = features.shape
    outputs = features.new_empty(num, shape[0], samples)
    library().lth_multiply(
        num, *shape, samples, torch.get_num_threads(), *strides,
        *pointer(weight), *pointer(bias), *pointer(features), *pointer(outputs),
    )  # fmt: skip
    return outputs


def _weight_gradient(
    shape: tuple[int, int], weight: Tensor, features: Tensor, outer: Tensor
) -> None:
    num, _, samples = features.shape
    room = transposed_buffer(features)
    library().lth_relate(
        num, *shape, samples, torch.get_num_threads(), room.data_ptr(),
        *pointer(weight), *pointer(features), *pointer(outer),
    )  # fmt: skip


def transposed_buffer(features: Tensor) -> Tensor:
    """Makes room for a batch [replicates, features, samples] sample by sample, in whole blocks."""
    num, wide, samples = features.shape
    return features.new_empty(num, samples, padded(wide, 4 * SAMPLES))
