"""Batch norm by the statistics of the whole batch, of which each rank has a part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lth_runner.training.engines.distributed.collectives import summed


class Synchronised(TorchFunctionMode):
    """While it is entered, ``F.batch_norm`` in training normalises by all ranks' samples.

    So whatever module calls it does, and networks stay what they are: no layer is exchanged, and
    the names and classes that scores and maskings go by are untouched. Torch's own SyncBatchNorm
    is for GPUs alone. Running statistics are those of the whole batch, the same on each rank.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        own = _batch_norm if func is F.batch_norm else func
        return own(*args, **(kwargs or {}))


def _batch_norm(
    values: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,  # noqa: FBT001, FBT002 (torch's own signature)
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training:
        return F.batch_norm(values, running_mean, running_var, weight, bias, False, momentum, eps)  # noqa: FBT003
    found, mean, variance = _Normalised.apply(values, weight, bias, eps)
    with torch.no_grad():
        for running, now in ((running_mean, mean), (running_var, variance)):
            if running is not None:
                running.mul_(1 - momentum).add_(now.to(running), alpha=momentum)
    return found


class _Normalised(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias, by channel; with mean and variance.

    The variance that is returned is the unbiased one, for the running statistics.
    """

    @staticmethod
    def forward(
        ctx: Any, values: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = values if values.dtype == torch.float64 else values.float()
        axes = [0, *range(2, x.ndim)]
        num = x.numel() // x.shape[1]
        variance, mean = torch.var_mean(x, axes, correction=0)
        # of double length, in which squares of means lose nothing that single ones hold
        one, two = mean.double(), variance.double()
        moments = torch.stack([torch.full_like(one, num), num * one, num * (two + one.square())])
        count, first, second = summed(moments)
        one = first / count
        two = (second / count - one.square()).clamp(min=0)
        mean, scale = one.to(x), (two + eps).rsqrt().to(x)
        ctx.save_for_backward(x, mean, scale, weight)
        ctx.count, ctx.has_bias, ctx.kind = float(count[0]), bias is not None, values.dtype
        unbiased = two * (count / (count - 1).clamp(min=1))
        normal = (x - _along(mean, x)) * _along(scale, x)
        if weight is not None:
            normal = normal * _along(weight.to(x), x)
        if bias is not None:
            normal = normal + _along(bias.to(x), x)
        ctx.mark_non_differentiable(mean, unbiased)
        return normal.to(values.dtype), mean, unbiased

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, scale, weight = ctx.saved_tensors
        slope = slopes[0].to(x)
        axes = [0, *range(2, x.ndim)]
        normal = (x - _along(mean, x)) * _along(scale, x)
        plain, tilted = slope.sum(axes), (slope * normal).sum(axes)
        # a copy: what is summed here is the gradient of this rank's weight and bias too
        whole = summed(torch.stack([plain, tilted]).double()) / ctx.count
        both = [_along(part.to(x), x) for part in whole]
        factor = scale if weight is None else scale * weight.to(x)
        inner = (slope - both[0] - normal * both[1]) * _along(factor, x)
        return (
            inner.to(ctx.kind),
            None if weight is None else tilted.to(weight),
            plain.to(x if weight is None else weight) if ctx.has_bias else None,
            None,
        )


def _along(by_channel: Tensor, like: Tensor) -> Tensor:
    return by_channel.view(1, -1, *[1] * (like.ndim - 2))
