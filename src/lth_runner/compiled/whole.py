"""Whole linear layers of several replicates at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lth_runner.compiled.batches import feature_major, padded, placed
from lth_runner.compiled.library import SAMPLES, library


class WholeLinear(nn.Module):
    """y[r] = x[r] W[r]^T + b[r] over inputs [replicates, samples, in].

    ``weight`` [replicates, at least out * in] and ``bias`` [replicates, at least out] hold each
    replicate's values, zeros behind them; ``shape`` is (out, in). Samples come in a multiple of
    SAMPLES. Cheapest where they lie feature by feature in memory, as the outputs do.
    """

    def __init__(
        self, shape: tuple[int, int], weight: nn.Parameter, bias: nn.Parameter | None
    ) -> None:
        super().__init__()
        self.shape, self.weight, self.bias = shape, weight, bias

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = _Products.apply(inputs, self.weight, self.bias, self.shape)
        return found


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, shape: tuple[int, int]
    ) -> Tensor:
        features = feature_major(inputs, shape[1])
        ctx.save_for_backward(features, weight, bias)
        ctx.shape = shape
        return _multiply(weight, shape, (shape[1], 1), bias, features).transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias = ctx.saved_tensors
        num_rows, num_columns = ctx.shape
        outer = feature_major(upstream[0], num_rows)
        to_inputs, to_weight, to_bias, _ = ctx.needs_input_grad
        found: list[Tensor | None] = [None] * 4
        if to_inputs:
            back = num_columns, num_rows
            found[0] = _multiply(weight, back, (1, num_columns), None, outer).transpose(1, 2)
        if to_weight or to_bias:
            to_whole = torch.empty_like(weight)
            to_whole[:, num_rows * num_columns :] = 0  # what the padding's would be
            to_shift = torch.zeros_like(bias) if to_bias else None
            _relate(ctx.shape, to_whole, to_shift, features, outer)
            found[1:3] = to_whole, to_shift
        return tuple(found)


def _multiply(
    weight: Tensor,
    shape: tuple[int, int],
    strides: tuple[int, int],
    bias: Tensor | None,
    features: Tensor,
) -> Tensor:
    """Outputs, feature by feature, of matrices whose rows and columns lie ``strides`` apart."""
    num, _, samples = features.shape
    outputs = features.new_empty(num, shape[0], samples)
    library().lth_multiply(
        num, *shape, samples, torch.get_num_threads(), *strides,
        *placed(weight), *placed(bias), *placed(features), *placed(outputs),
    )  # fmt: skip
    return outputs


def _relate(
    shape: tuple[int, int], weight: Tensor, bias: Tensor | None, features: Tensor, outer: Tensor
) -> None:
    num, _, samples = features.shape
    turned = features.new_empty(num, samples, padded(shape[1], SAMPLES))
    library().lth_relate(
        num, *shape, samples, torch.get_num_threads(), turned.data_ptr(),
        *placed(weight), *placed(bias), *placed(features), *placed(outer),
    )  # fmt: skip
