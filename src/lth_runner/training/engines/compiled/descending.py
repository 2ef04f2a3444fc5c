"""A whole layer's gradient and its optimizer's step in one pass over the weights."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, optim
from torch.optim import Optimizer

from lth_runner.training.engines.compiled.batches import placed
from lth_runner.training.engines.compiled.library import library
from lth_runner.training.engines.compiled.whole import WholeLinear, turned

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


def descends(optimizer: Optimizer) -> bool:
    """Whether ``descend`` knows its rule: SGD, Adam and AdamW without rarer options."""
    return type(optimizer) in (optim.SGD, optim.Adam, optim.AdamW) and not any(
        group.get(option) for group in optimizer.param_groups for option in _WITHOUT
    )


@torch.no_grad()
def descend(
    layer: WholeLinear,
    group: Mapping[str, Any],
    states: MutableMapping[Any, dict[str, Any]],
    factor: Tensor | None,
) -> None:
    """What the optimizer's step would do to ``layer.weight`` by the gradient that it deferred.

    ``group`` is the optimizer's of that weight, ``states`` what it holds of every weight;
    ``factor``, the mask, multiplies what comes out. Agrees with torch's kernels within float
    tolerance: Adam as fused ones compute it, Kingma & Ba, ICLR 2015, arXiv 1412.6980.
    """
    taken = layer.taken()
    if taken is None:
        return  # it took no part in this step: torch leaves such a weight alone
    weight, (features, outer) = layer.weight, taken
    state = states[weight]
    moments = _moments(group)
    for name in moments:
        if name not in state:
            state[name] = torch.zeros_like(weight)
    rule = _rule(group, state)
    slabs = [state[name] for name in moments] + [None] * (2 - len(moments))
    assert all(slab.stride() == weight.stride() for slab in (*slabs, factor) if slab is not None)
    num, _, samples = features.shape
    room = turned(features)
    library().lth_descend(
        num, *layer.shape, samples, torch.get_num_threads(), room.data_ptr(),
        ctypes.byref(rule), weight.data_ptr(), *(placed(slab)[0] for slab in slabs),
        placed(factor)[0], weight.stride(0), *placed(features), *placed(outer),
    )  # fmt: skip


def _moments(group: Mapping[str, Any]) -> tuple[str, ...]:
    if "betas" in group:
        return "exp_avg", "exp_avg_sq"
    return ("momentum_buffer",) if group["momentum"] else ()


def _rule(group: Mapping[str, Any], state: dict[str, Any]) -> _Rule:
    """The rule of this step; Adam's is counted in ``state``."""
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
