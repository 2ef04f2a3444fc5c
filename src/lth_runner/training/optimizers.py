"""What is known of torch's optimizers, by which a training may be computed in other ways."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import optim
from torch.optim import Optimizer

# the update of a weight needs no other weight
ELEMENTWISE = (
    optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop, optim.Adagrad, optim.Adadelta, optim.Adamax,
    optim.NAdam, optim.RAdam,
)  # fmt: skip
MARGIN = 4.0  # for schedules that go above the optimizer's own rate


def looks_further(optimizer: Optimizer) -> bool:
    """Whether the update of a weight may depend on another weight, or on its gradient."""
    return type(optimizer) not in ELEMENTWISE


def passes_zero(optimizer: Optimizer) -> bool:
    """Whether weight decay may change the sign of a value that no gradient comes to.

    Decay that goes into the gradient does so in steps of the learning rate by Adam and its kin,
    and with momentum mu by SGD where lr * decay > (1 - sqrt(mu))^2: it then swings about 0.
    """
    return any(_passes_zero(optimizer, group) for group in optimizer.param_groups)


@torch.no_grad()
def begin_late(optimizer: Optimizer) -> None:
    """Gives a buffer to parameters whose first gradient comes later than others', for fused SGD.

    Torch's takes all of a group without one, or none. It begins as that of the others did: a step
    makes mu b + (1 - dampening) g of a buffer b, which is g where b = dampening g / mu.
    """
    for group in optimizer.param_groups if isinstance(optimizer, optim.SGD) else ():
        if not group["fused"] or not group["momentum"]:
            continue
        given = [p for p in group["params"] if p.grad is not None]
        late = [p for p in given if optimizer.state.get(p, {}).get("momentum_buffer") is None]
        for p in late if len(late) < len(given) else ():
            gradient = -p.grad if group["maximize"] else p.grad
            share = group["dampening"] / group["momentum"]
            buffer = share * gradient.add(p, alpha=group["weight_decay"])
            optimizer.state[p]["momentum_buffer"] = buffer


def _passes_zero(optimizer: Optimizer, group: dict[str, Any]) -> bool:
    lost = MARGIN * float(group["lr"]) * group.get("weight_decay", 0.0)  # in a step, of a value
    if isinstance(optimizer, optim.AdamW) or group.get("decoupled_weight_decay", False):
        return lost > 1
    if isinstance(optimizer, optim.SGD):
        return bool(lost > (1 - math.sqrt(group["momentum"])) ** 2)
    return lost != 0
