"""Batch norm by the statistics of the whole batch, of which each rank has a part."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zlib import crc32

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from lth_runner.training.engines.distributed.collectives import is_same, summed
from lth_runner.values.errors import UserError


class Synchronised(TorchFunctionMode):
    """While it is entered, ``F.batch_norm`` in training normalises by all ranks' samples.

    So whatever module calls it does, and networks stay what they are: no layer is exchanged, and
    the names and classes that scores and maskings go by are untouched. Torch's own SyncBatchNorm
    is for GPUs alone. Running statistics are those of the whole batch, the same on each rank.

    All ranks must go through the same norms. Those of a ``model`` in training are noted, and at the
    end UserError is raised where ranks went through others.
    """

    def __init__(self, model: nn.Module | None = None) -> None:
        super().__init__()
        self._model, self._way = model, 0
        buffers = () if model is None else model.buffers()
        self._number = {id(buffer): number for number, buffer in enumerate(buffers)}

    def __enter__(self) -> Synchronised:
        self._way = 0
        super().__enter__()
        return self

    def __exit__(self, kind: Any, *raised: Any) -> None:
        super().__exit__(kind, *raised)
        if kind is not None or self._model is None:
            return
        if not is_same(self._way, next(self._model.parameters()).device):
            raise UserError(
                "the ranks went through different batch norms in one step, and each of these goes "
                "by the samples of all ranks: for a model that leaves layers out at random, or "
                "chooses them by the sample, there is train.sync_batch_norm=false"
            )

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = kwargs or {}
        if func is not F.batch_norm:
            return func(*args, **named)
        running = args[1] if len(args) > 1 else named.get("running_mean")
        self._way = crc32(repr(self._number.get(id(running))).encode(), self._way)
        return _batch_norm(*args, **named)


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
        num = x.numel() // x.shape[1]
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
        # of double length, in which squares of means lose nothing that single ones hold
        one, two = mean.double(), variance.double()
        moments = torch.stack([torch.full_like(one, num), num * one, num * (two + one.square())])
        count, first, second = summed(moments)
        one = first / count
        two = (second / count - one.square()).clamp(min=0)
        mean, variance = one.to(x), two.to(x)
        factor = torch.ones_like(mean) if weight is None else weight.to(x)
        shift = None if bias is None else bias.to(x)
        # torch's kernel for evaluation: by the statistics that it is given
        normal, _, _ = torch.native_batch_norm(x, factor, shift, mean, variance, False, 0.0, eps)  # noqa: FBT003
        ctx.save_for_backward(x, mean, variance, factor, count)
        ctx.eps, ctx.kind = eps, values.dtype
        ctx.of = [None if one is None else one.dtype for one in (weight, bias)]
        unbiased = two * (count / (count - 1).clamp(min=1))
        ctx.mark_non_differentiable(mean, unbiased)
        return normal.to(values.dtype), mean, unbiased

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, variance, factor, count = ctx.saved_tensors
        # slope * scale, and by channel the sums of slope * normal and of slope
        is_training, wanted = False, [True, True, True]
        scaled, tilted, plain = torch.ops.aten.native_batch_norm_backward(
            slopes[0].to(x), x, factor, mean, variance, None, None, is_training, ctx.eps, wanted
        )
        # a copy: what is summed here is the gradient of this rank's weight and bias too
        tilts, plains = summed(torch.stack([tilted, plain]).double()) / count
        scale = (variance.double() + ctx.eps).rsqrt()
        # what each slope has less: (plains + normal * tilts) * scale, by x and a constant
        by_x = -factor * scale * scale * tilts
        rest = -factor * scale * plains - by_x * mean
        scaled.addcmul_(x, _along(by_x, x)).add_(_along(rest, x))
        weight, bias = ctx.of
        return (
            scaled.to(ctx.kind),
            None if weight is None else tilted.to(weight),
            None if bias is None else plain.to(bias),
            None,
        )


def _along(by_channel: Tensor, like: Tensor) -> Tensor:
    return by_channel.to(like).view(1, -1, *[1] * (like.ndim - 2))
