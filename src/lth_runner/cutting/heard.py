"""What each output of a product with weights hears, and what is constant of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lth_runner.cutting.found import Product
from lth_runner.cutting.labels import Shadow
from lth_runner.cutting.trace import Call, Trace


@dataclass(frozen=True)
class Side:
    """Inputs of a product: their labels, which vary, and the value of each that does not.

    ``values`` [inputs, places]
    """

    labels: Tensor
    varies: Tensor
    values: Tensor

    @classmethod
    def of(cls, labels: Tensor, varies: Tensor, values: Tensor) -> Side:
        """Takes all for varying where there are no places: an example that nothing comes to."""
        if values.shape[1]:
            return cls(labels, varies, values)
        return cls(labels, torch.ones_like(varies), values.new_zeros(len(values), 1))

    def uniform(self) -> Tensor:
        """Whether an input is the same constant everywhere."""
        spread = self.values.amax(1) - self.values.amin(1)
        return ~self.varies & (spread <= 1e-12 * self.values.abs().amax(1))

    def silent(self) -> Tensor:
        return ~self.varies & (self.values == 0).all(1)


def or_none(slots: Tensor | None, num: int) -> Tensor:
    """Gives labels, or as many that are no slot where there are none."""
    return torch.zeros(num, dtype=torch.int64) if slots is None else slots


def met(trace: Trace, one: Tensor | None, other: Tensor | None, why: str) -> Tensor | None:
    """Ties what is summed over on both sides; what has slots on one side alone stays."""
    ties = trace.found.ties
    if one is not None and other is not None:
        ties.tie(one, other)
        return one
    for slots in (one, other):
        if slots is not None:
            ties.place(slots, why)
            return slots
    return None


def bias_of(trace: Trace, call: Call, name: str, weight: Shadow) -> str | None:
    """Names the bias that a constant can move into, there or not; None where there is none."""
    if isinstance(call.args.get(name), Tensor):
        return call.shadow(name).root
    layer = trace.modules[call.module]
    prefix = f"{call.module}." if call.module else ""
    owned = isinstance(layer, (nn.Linear, _ConvNd)) and weight.root is not None
    same = owned and trace.roots.get(id(layer.weight)) == weight.root
    return f"{prefix}bias" if same else None


def hear(
    trace: Trace,
    layer: str,
    side: Side,
    outputs: Tensor,
    weight: Tensor,
    *,
    bias: str | None,
    obstacle: str = "",
    carried: str | None = None,
) -> None:
    """Remembers which output hears which input, and what constants send.

    ``obstacle``: what of the layer keeps constants from moving into its bias.
    """
    nonzero = (weight != 0).any(2)
    silent, uniform = side.silent(), side.uniform()
    obstacle = obstacle or ("" if bias else "has no bias of its own")
    movable = silent if obstacle else silent | uniform
    loud = movable & ~silent & nonzero.any(0)
    which = loud.nonzero().reshape(-1)
    sent = None if carried else (weight[:, which].sum(2) * side.values[which, 0]).cpu()
    where = layer or "the network"
    why = f"what they send to {where} is not the same everywhere"
    if obstacle:
        why = f"{where} {obstacle}, so their constant cannot move into its bias"
    carry = uniform & ~movable if carried else torch.zeros_like(uniform)
    trace.found.ties.note(side.labels, (~side.varies & ~movable).cpu(), why)
    trace.found.products.append(
        Product(
            layer, side.labels, outputs, side.varies.cpu(), (nonzero & ~silent).cpu(),
            movable.cpu(), which.cpu(), sent, bias, carry.cpu(), side.values[:, 0].cpu().clone(),
            carried,
        )
    )  # fmt: skip
