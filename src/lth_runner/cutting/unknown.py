"""What is assumed of an operation that no rule knows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.cutting.labels import Shadow
from lth_runner.cutting.trace import Call, Trace


def unknown(trace: Trace, call: Call) -> list[Shadow]:
    """Keeps every slot that is read: each value may count for every other."""
    varies, why = False, f"{call.where()} reads them all"
    if isinstance(trace.modules[call.module], (nn.RNNBase, nn.RNNCellBase)):
        why = f"{call.module or 'the network'} is recurrent, and its units stay"
    for _, shadow in call.operands():
        varies = varies or bool(shadow.varies.any())
        for label in shadow.labels:
            trace.found.ties.hear(label, shadow.varies, why)
    return [shadow_of(value, varies=varies) for value in tensors_of(call.out)]


def tensors_of(out: Any) -> list[Tensor]:
    """Lists the tensors that an operation answers."""
    values = out if isinstance(out, (tuple, list)) else [out]
    return [value for value in values if isinstance(value, Tensor)]


def shadow_of(value: Tensor, *, varies: bool) -> Shadow:
    """Makes what is known of a tensor without slots."""
    flags = torch.full((), varies, dtype=torch.bool, device=value.device)
    return Shadow([], flags.expand(value.shape))
