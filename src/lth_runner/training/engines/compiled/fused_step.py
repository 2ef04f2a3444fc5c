"""A whole layer's weight gradient and its optimizer's step, fused in one pass over the weights."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim import Optimizer

from lth_runner.training.engines.compiled.batches import pointer
from lth_runner.training.engines.compiled.library import library
from lth_runner.training.engines.compiled.whole import WholeLinear, transposed_buffer

_ADAM, _MOMENTUM, _NESTEROV, _PLAIN = range(4)
_NUMBERS = (
    "rate", "decay", "shrink", "first", "first_rest", "second", "second_rest", "epsilon", "root",
)  # fmt: skip
_WITHOUT = ("amsgrad", "maximize", "dampening", "differentiable")


class _Rule(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int32),
        *((name, ctypes.c_float) for name in _NUMBERS),
    ]


def can_fuse_step(optimizer: Optimizer) -> bool:
    """Whether ``fused_step`` knows the optimizer: SGD, Adam and AdamW without rarer options."""
    return type(optimizer) in (optim.SGD, optim.Adam, optim.AdamW) and not any(
        group.get(option) for group in optimizer.param_groups for option in _WITHOUT
    )


@torch.no_grad()
def fused_step(
    layer: WholeLinear,
    group: Mapping[str, Any],
    states: MutableMapping[Any, dict[str, Any]],
    factor: Tensor | None,
) -> None:
    """Takes the optimizer's step of ``layer.weight`` by the gradient that the layer did not make.

    ``group`` is the optimizer's of that weight, ``states`` what it holds of every weight;
    ``factor``, the mask, multiplies what comes out. Agrees with torch's kernels within float
    tolerance: Adam as fused ones compute it, Kingma & Ba, ICLR 2015, arXiv 1412.6980.
    """
    operands = layer.take_operands()
    if operands is None:
        return  # it took no part in this step: torch leaves such a weight alone
    weight, (features, outer) = layer.weight, operands
    state = states[weight]
    moments = _moments(group)
    for name in moments:
        if name not in state:
            state[name] = torch.zeros_like(weight)
    rule = _rule(group, state)
    slabs = [state[name] for name in moments] + [None] * (2 - len(moments))
    assert all(slab.stride() == weight.stride() for slab in (*slabs, factor) if slab is not None)
    num, _, samples = features.shape
    room = transposed_buffer(features)
    library().lth_fused_step(
        num, *layer.shape, samples, torch.get_num_threads(), room.data_ptr(),
        ctypes.byref(rule), weight.data_ptr(), *(pointer(slab)[0] for slab in slabs),
        pointer(factor)[0], weight.stride(0), *pointer(features), *pointer(outer),
    )  # fmt: skip


def _moments(group: Mapping[str, Any]) -> tuple[str, ...]:
    if "betas" in group:
        return "exp_avg", "exp_avg_sq"
    return ("momentum_buffer",) if group["momentum"] else ()


def _rule(group: Mapping[str, Any], state: dict[str, Any]) -> _Rule:
    """Makes the numbers of this step; Adam's steps are counted in ``state``."""
    rate, decay = float(group["lr"]), group["weight_decay"]
    if "betas" not in group:
        momentum = group["momentum"]
        kind = (_NESTEROV if group["nesterov"] else _MOMENTUM) if momentum else _PLAIN
        return _Rule(kind, rate, decay, 1.0, momentum)
    step = state.setdefault("step", torch.zeros(()))
    step += 1
    first, second = group["betas"]
    count = int(step)
    root = 1 / math.sqrt(1 - second**count)
    decoupled = group["decoupled_weight_decay"]
    return _Rule(
        _ADAM, rate / (1 - first**count), 0.0 if decoupled else decay,
        1 - rate * decay if decoupled else 1.0, first, 1 - first, second, 1 - second,
        group["eps"], root,
    )  # fmt: skip
