"""Linear layers over their surviving weights alone, for several replicates at once."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.kernels import library

SAMPLES = 16  # a batch is padded to a multiple: whole vectors
VALUES = 64  # so are a replicate's weights, for the optimizer's kernels (see stacked.VECTOR)


def padded(num: int, to: int) -> int:
    """``num`` rounded up to a multiple of ``to``."""
    return -(-num // to) * to


@dataclass(frozen=True, eq=False)
class Survivors:
    """Where the kept weights of one layer lie, replicate by replicate.

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
        """``kept``: one boolean matrix [out, in] a replicate."""
        flat = tuple(one.flatten().nonzero().flatten() for one in kept)
        num_rows, num_columns = kept[0].shape
        width = max(VALUES, max(padded(len(f), VALUES) for f in flat))
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
        return self.columns.shape[1]

    def gather(self, dense: Sequence[Tensor]) -> Tensor:
        """The slab of one tensor [out, in] a replicate."""
        slab = dense[0].new_zeros(len(self.flat), self.width)
        for index, value in enumerate(dense):
            slab[index, : len(self.flat[index])] = value.reshape(-1)[self.flat[index]]
        return slab

    def scatter(self, slab: Tensor, index: int, into: Tensor) -> None:
        """Writes a replicate's values to their places in a tensor [out, in]; the rest stays."""
        chosen = self.flat[index]
        into.view(-1)[chosen] = slab[index, : len(chosen)]


def _starts(sorted_into: Tensor, num: int) -> Tensor:
    """Where each of ``num`` rows begins, and where the last ends."""
    counts = torch.bincount(sorted_into, minlength=num)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _stretched(values: Tensor, width: int) -> Tensor:
    return torch.cat([values, values.new_zeros(width - len(values))])


class SparseLinear(nn.Module):
    """y[r] = x[r] W[r]^T + b[r] over inputs [replicates, samples, in], W a slab of survivors.

    Samples come in a multiple of SAMPLES. Cheapest where they lie feature by feature in memory, as
    the outputs do.
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
        features = _by_feature(inputs)
        ctx.save_for_backward(features, weight, bias)
        ctx.survivors = survivors
        outputs = _combine(
            survivors.start, survivors.columns, None, weight, bias, features, survivors.shape[0]
        )
        return outputs.transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        features, weight, bias = ctx.saved_tensors
        survivors: Survivors = ctx.survivors
        outer = _by_feature(upstream[0])
        to_inputs, to_weight, to_bias, _ = ctx.needs_input_grad
        found: list[Tensor | None] = [None] * 4
        if to_inputs:
            back = survivors.start_back, survivors.rows, survivors.order
            found[0] = _combine(*back, weight, None, outer, survivors.shape[1]).transpose(1, 2)
        if to_weight or to_bias:
            found[1] = torch.zeros_like(weight)
            found[2] = torch.zeros_like(bias) if to_bias and bias is not None else None
            _correlate(survivors, found[1], found[2], features, outer)
        return tuple(found)


def _by_feature(batch: Tensor) -> Tensor:
    """[replicates, features, samples], contiguous but for replicates that share their memory."""
    features = batch.transpose(1, 2)
    if batch.stride(0) == 0 and features[0].is_contiguous():
        return features
    return features.contiguous()


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
        *_whole(num, num_rows, samples, torch.get_num_threads()),
        *_where(start, index, order, weight), *_whole(weight.stride(0)),
        *_where(bias), *_whole(0 if bias is None else bias.stride(0)),
        *_where(features), *_whole(features.stride(0)),
        *_where(outputs), *_whole(outputs.stride(0)),
    )  # fmt: skip
    return outputs


def _correlate(
    survivors: Survivors, weight: Tensor, bias: Tensor | None, features: Tensor, outer: Tensor
) -> None:
    num, _, samples = features.shape
    library().lth_correlate(
        *_whole(num, survivors.shape[0], samples, torch.get_num_threads()),
        *_where(survivors.start, survivors.columns, weight), *_whole(weight.stride(0)),
        *_where(bias), *_whole(0 if bias is None else bias.stride(0)),
        *_where(features), *_whole(features.stride(0)),
        *_where(outer), *_whole(outer.stride(0)),
    )  # fmt: skip


def _whole(*numbers: int) -> Iterator[ctypes.c_int64]:
    return map(ctypes.c_int64, numbers)


def _where(*tensors: Tensor | None) -> Iterator[ctypes.c_void_p]:
    """Addresses of their values; 0 for none."""
    return (ctypes.c_void_p(None if t is None else t.data_ptr()) for t in tensors)
