"""Linear layers over their surviving weights alone, for several replicates at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from lth_runner.training.engines.compiled.batches import VECTOR, feature_major, padded, pointer
from lth_runner.training.engines.compiled.library import library


@dataclass(frozen=True, eq=False)
class Survivors:
    """The places of the kept weights of one layer, replicate by replicate.

    A slab [replicates, width] holds each replicate's kept weights in the order of ``flat``, zeros
    behind them. ``start`` and ``columns`` are the matrices compressed by rows; ``start_back``,
    ``rows`` and ``order`` those of the transposed ones, whose weight k is ``order[k]`` of the slab.
    """

    shape: tuple[int, int]
    flat: tuple[Tensor, ...]
    start: Tensor
    columns: Tensor
    start_back: Tensor
    rows: Tensor
    order: Tensor

    @staticmethod
    def of(kept: Sequence[Tensor]) -> Survivors:
        """Finds them in ``kept``, one boolean matrix [out, in] a replicate."""
        flat = tuple(one.flatten().nonzero().flatten() for one in kept)
        num_rows, num_columns = kept[0].shape
        width = max(VECTOR, max(padded(len(f), VECTOR) for f in flat))
        found: dict[str, list[Tensor]] = {
            name: [] for name in ("start", "columns", "start_back", "rows", "order")
        }
        for positions in flat:
            rows, columns = positions // num_columns, positions % num_columns
            order = torch.argsort(columns, stable=True)
            found["start"].append(_starts(rows, num_rows))
            found["columns"].append(_stretched(columns, width))
            found["start_back"].append(_starts(columns, num_columns))
            found["rows"].append(_stretched(rows[order], width))
            found["order"].append(_stretched(order, width))
        stacks = {name: torch.stack(parts).int().contiguous() for name, parts in found.items()}
        return Survivors((num_rows, num_columns), flat, **stacks)

    @property
    def width(self) -> int:
        """How many values a replicate's row of the slab has."""
        return self.columns.shape[1]

    def gather(self, dense: Sequence[Tensor]) -> Tensor:
        """Gathers the slab from one tensor [out, in] a replicate."""
        slab = dense[0].new_zeros(len(self.flat), self.width)
        for index, value in enumerate(dense):
            slab[index, : len(self.flat[index])] = value.reshape(-1)[self.flat[index]]
        return slab

    def scatter(self, slab: Tensor, index: int, into: Tensor) -> None:
        """Writes a replicate's values to their places in a tensor [out, in]; the rest stays."""
        chosen = self.flat[index]
        into.view(-1)[chosen] = slab[index, : len(chosen)]


def _starts(sorted_into: Tensor, num: int) -> Tensor:
    """Finds where each of ``num`` rows begins, and where the last ends."""
    counts = torch.bincount(sorted_into, minlength=num)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _stretched(values: Tensor, width: int) -> Tensor:
    return torch.cat([values, values.new_zeros(width - len(values))])


class SurvivingLinear(nn.Module):
    """Computes y[r] = x[r] W[r]^T + b[r] over the survivors of W.

    Inputs are [replicates, samples, in], with samples in a multiple of SAMPLES. Cheapest where
    they lie feature by feature in memory, as the outputs do.
    """

    def __init__(self, survivors: Survivors, weight: nn.Parameter, bias: nn.Parameter | None):
        super().__init__()
        self.survivors, self.weight, self.bias = survivors, weight, bias

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = _Products.apply(inputs, self.weight, self.bias, self.survivors)
        return found


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, survivors: Survivors
    ) -> Tensor:
        features = feature_major(inputs, survivors.shape[1])
        ctx.save_for_backward(features, weight, bias)
        ctx.survivors = survivors
        outputs = _combine(
            survivors.start, survivors.columns, None, weight, bias, features, survivors.shape[0]
        )
        return outputs.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias = ctx.saved_tensors
        survivors: Survivors = ctx.survivors
        outer = feature_major(upstream[0], survivors.shape[0])
        to_inputs, to_weight, to_bias, _ = ctx.needs_input_grad
        found: list[Tensor | None] = [None] * 4
        if to_inputs:
            back = survivors.start_back, survivors.rows, survivors.order
            found[0] = _combine(*back, weight, None, outer, survivors.shape[1]).transpose(1, 2)
        if to_weight or to_bias:
            to_kept = torch.zeros_like(weight)
            to_shift = torch.zeros_like(bias) if to_bias else None
            _kept_gradients(survivors, to_kept, to_shift, features, outer)
            found[1:3] = to_kept, to_shift
        return tuple(found)


def _combine(
    start: Tensor,
    index: Tensor,
    order: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    features: Tensor,
    num_rows: int,
) -> Tensor:
    num, _, samples = features.shape
    outputs = features.new_empty(num, num_rows, samples)
    library().lth_combine(
        num, num_rows, samples, torch.get_num_threads(), index.shape[1],
        start.data_ptr(), index.data_ptr(), None if order is None else order.data_ptr(),
        *pointer(weight), *pointer(bias), *pointer(features), *pointer(outputs),
    )  # fmt: skip
    return outputs


def _kept_gradients(
    survivors: Survivors, weight: Tensor, bias: Tensor | None, features: Tensor, outer: Tensor
) -> None:
    num, _, samples = features.shape
    library().lth_correlate(
        num, survivors.shape[0], samples, torch.get_num_threads(), survivors.width,
        survivors.start.data_ptr(), survivors.columns.data_ptr(),
        *pointer(weight), *pointer(bias), *pointer(features), *pointer(outer),
    )  # fmt: skip
