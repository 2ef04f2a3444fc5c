"""How labels pass through means over them: normalisations, reductions and softmax."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from lth_runner.cutting.labels import Shadow, axes
from lth_runner.cutting.trace import Call, Trace
from lth_runner.cutting.unknown import tensors_of


def reduced(trace: Trace, call: Call) -> list[Shadow]:
    """Sums, means and the like count what they reduce: slots there stay."""
    shadow, value = call.shadow("self"), call.args["self"]
    given = call.args.get("dim")
    dims = [given] if isinstance(given, int) else list(given or range(value.ndim))
    over = {dim % value.ndim for dim in dims}
    labels = []
    varies = shadow.varies.expand(value.shape)
    for label in shadow.labels:
        if axes(label) & over and not axes(label) - over:
            trace.found.ties.hear(label, varies, f"{call.where()} is taken over them")
        else:
            labels.append(trace.found.ties.tie_along(label, axes(label) & over))
    for dim in over:
        varies = varies.any(dim, keepdim=True)
    if not call.args.get("keepdim", False):
        shape = tensors_of(call.out)[0].shape
        left = [axis for axis in range(value.ndim) if axis not in over]
        labels = [label.reshape([label.shape[axis] for axis in left]) for label in labels]
        varies = varies.reshape(shape)
    return [Shadow(labels, varies) for _ in tensors_of(call.out)]


def softmax(trace: Trace, call: Call) -> list[Shadow]:
    """Each share depends on all: slots that are shared among stay."""
    value = call.args["self"]
    shadow, dim = call.shadow("self"), call.args["dim"] % value.ndim
    labels = []
    for label in shadow.labels:
        if axes(label) == {dim}:
            trace.found.ties.hear(label, shadow.varies, f"{call.where()} is taken over them")
        else:
            labels.append(trace.found.ties.tie_along(label, axes(label) & {dim}))
    varies = shadow.varies.expand(value.shape).any(dim, keepdim=True).expand(value.shape)
    sums = dim == value.ndim - 1 and "log" not in call.op.overloadpacket.__name__
    return [Shadow(labels, varies, None, sums)]


def batch_norm(trace: Trace, call: Call) -> list[Shadow]:
    """Each channel is scaled by itself; a scale of 0 leaves a constant."""
    value = call.args["input"]
    shape = [1, -1] + [1] * (value.ndim - 2)
    operands = [(value.shape, call.shadow("input").labels)]
    for name in ("weight", "bias", "running_mean", "running_var"):
        given = call.args.get(name)
        if isinstance(given, Tensor):
            labels = [label.reshape(shape) for label in call.of(given).labels]
            operands.append((torch.Size([1, len(given), *shape[2:]]), labels))
    labels = trace.found.ties.combine(operands, value.ndim, call.where())
    part = trace.modules[call.module]
    for label in labels:
        if isinstance(part, _NormBase) and axes(label) == {1}:  # of instances, sample by sample
            trace.found.norm_channels[call.module] = label.reshape(-1)[: part.num_features]
    varies = call.shadow("input").varies.expand(value.shape)
    if call.args.get("training"):
        for axis in (0, *range(2, value.ndim)):
            varies = varies.any(axis, keepdim=True)
    weight = call.args.get("weight")
    if isinstance(weight, Tensor):
        varies = varies & (weight != 0).reshape(shape)
    return [Shadow(labels, varies.expand(value.shape))]


def layer_norm(trace: Trace, call: Call) -> list[Shadow]:
    """Slots that a mean is taken over stay."""
    value, ties = call.args["input"], trace.found.ties
    shadow = call.shadow("input")
    over = set(range(value.ndim - len(call.args["normalized_shape"]), value.ndim))
    why = f"{_norm_name(trace, call)} takes their mean"
    operands = [(value.shape, shadow.labels)]
    for name in ("weight", "bias"):
        if isinstance(call.args.get(name), Tensor):
            operands.append((call.args[name].shape, call.shadow(name).labels))
    labels = []
    for label in ties.combine(operands, value.ndim, why):
        if axes(label) <= over:
            ties.hear(label, shadow.varies.expand(value.shape), why)
        else:
            labels.append(ties.tie_along(label, axes(label) & over))
    varies = shadow.varies.expand(value.shape)
    for axis in over:
        varies = varies.any(axis, keepdim=True)
    return [Shadow(labels, varies.expand(value.shape))]


def _norm_name(trace: Trace, call: Call) -> str:
    kind = type(trace.modules[call.module]).__name__
    return f"{kind} ({call.module})" if call.module else kind


def group_norm(trace: Trace, call: Call) -> list[Shadow]:
    """Whole groups of channels may go; of a group that stays, every channel does."""
    value, ties, num = call.args["input"], trace.found.ties, call.args["group"]
    shadow, size = call.shadow("input"), value.shape[1] // num
    shape = [1, -1] + [1] * (value.ndim - 2)
    operands = [(value.shape, shadow.labels)]
    for name in ("weight", "bias"):
        given = call.args.get(name)
        if isinstance(given, Tensor):
            labels = [label.reshape(shape) for label in call.of(given).labels]
            operands.append((torch.Size([1, len(given), *shape[2:]]), labels))
    why = f"{_norm_name(trace, call)} takes their mean"
    labels = ties.combine(operands, value.ndim, why)
    flags = shadow.varies.expand(value.shape)
    slots = ties.vector(labels, 1, why)
    if slots is not None and size > 1:
        constant = ~flags.transpose(0, 1).flatten(1).any(1).cpu()
        ties.note(slots, constant, why, alone=True)
        ties.tie_along(slots.reshape(num, size), {1})
    if slots is not None:
        if isinstance(trace.modules[call.module], nn.GroupNorm) and num > 1:
            trace.found.norm_groups[call.module] = slots.reshape(num, size)[:, 0]
        else:
            ties.place(slots, why)
    varies = flags.reshape(len(value), num, -1).any(2).repeat_interleave(size, 1)
    varies = varies.reshape([len(value), num * size, *shape[2:]])
    if isinstance(call.args.get("weight"), Tensor):
        varies = varies & (call.args["weight"] != 0).reshape(shape)
    kept = [] if slots is None else [slots.reshape(shape)]
    return [Shadow(kept, varies.expand(value.shape))]
