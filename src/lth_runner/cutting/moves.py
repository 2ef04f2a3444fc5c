"""How labels pass through operations that move elements about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.cutting.found import Split
from lth_runner.cutting.labels import Label, Shadow, axes, compact, reshaped
from lth_runner.cutting.trace import Call, Trace
from lth_runner.cutting.unknown import shadow_of, tensors_of, unknown

aten = torch.ops.aten


def same(trace: Trace, call: Call) -> list[Shadow]:
    """A copy is cut as what it is a copy of."""
    value, shadow = call.operands()[0]
    if call.out.shape != value.shape:
        return unknown(trace, call)
    return [shadow]


def like(trace: Trace, call: Call) -> list[Shadow]:
    """A new tensor of another one's shape is cut as that one is."""
    shadow = call.shadow("self")
    return [Shadow(shadow.labels if call.out.shape == shadow.varies.shape else [],
                   torch.zeros_like(call.out, dtype=torch.bool))]  # fmt: skip


def overwritten(trace: Trace, call: Call) -> list[Shadow]:
    """A tensor that is written to place by place cannot be followed."""
    why = f"{call.where()} writes into a part of a tensor"
    for value, shadow in call.operands():
        for label in shadow.labels:
            trace.found.ties.hear(label, shadow.varies.expand(value.shape), why)
    source = {"copy_": "src", "fill_": "value"}.get(call.op.overloadpacket.__name__)
    if source is not None:  # nothing is left of what was there
        flags = call.shadow(source).varies.to(call.out.device)
        return [Shadow([], flags.expand(call.out.shape))]
    varies = any(bool(shadow.varies.any()) for _, shadow in call.operands())
    return [shadow_of(call.out, varies=varies)]


def reshape(trace: Trace, call: Call) -> list[Shadow]:
    """Labels are reshaped as the tensor is; what was one axis may be several, and the reverse."""
    shadow, old, new = call.shadow("self"), call.args["self"].shape, call.out.shape
    labels: list[Label] = []
    for label in shadow.labels:
        seen = reshaped(label, old, new)
        if any(axes(seen) & axes(other) for other in labels):
            trace.found.ties.lose(label, f"{call.where()} merges two axes of them")
            continue
        if len(axes(seen)) != len(axes(label)):
            if isinstance(trace.modules[call.module], nn.MultiheadAttention):
                why = f"nn.MultiheadAttention ({call.module}) has a fixed size of its heads"
                trace.found.ties.place(label, why, movable=True)
            split, merged = (seen, label) if len(axes(seen)) > len(axes(label)) else (label, seen)
            sizes = tuple(split.shape[axis] for axis in sorted(axes(split)))
            trace.found.splits.append(Split(call.module, split, sizes, max(merged.shape)))
        labels.append(seen)
    sums = shadow.sums_to_one and len(old) > 0 and len(new) > 0 and old[-1] == new[-1]
    root = shadow.root if old == new else None
    return [Shadow(labels, shadow.varies.reshape(new), root, sums)]


def reordered(trace: Trace, call: Call) -> list[Shadow]:
    """Axes in another order: done to labels as to the tensor."""
    shadow = call.shadow("self")

    def done(value: Tensor) -> Tensor:
        return _again(call, value)

    return [Shadow([done(label) for label in shadow.labels], done(shadow.varies), shadow.root)]


def _again(call: Call, value: Tensor) -> Any:
    """Does what was done to ``self`` to another tensor."""
    schema = call.op._schema.arguments
    given = {**call.args, "self": value}
    args = [given[a.name] for a in schema if not a.kwarg_only and a.name in given]
    return call.op(*args)


def expand(trace: Trace, call: Call) -> list[Shadow]:
    """Entries are repeated along axes of one entry, which have no slots."""
    shadow, shape = call.shadow("self"), call.out.shape
    more = [1] * (len(shape) - shadow.varies.ndim)
    labels = [label.reshape(more + list(label.shape)) for label in shadow.labels]
    same = call.args["self"].shape == shape[len(more) :]
    root = shadow.root if same else None
    return [Shadow(labels, shadow.varies.expand(shape), root, shadow.sums_to_one)]


def taken(trace: Trace, call: Call) -> list[Shadow]:
    """Places are chosen along one axis: by number, which fits no other number of slots."""
    shadow, value = call.shadow("self"), call.args["self"]
    dim = call.args.get("dim", call.args.get("dimension", 0)) % value.ndim
    if shadow.stacked and dim == 0:
        found = _place_by_place(call, shadow.labels, shadow)
        stays = [each.varies.ndim == value.ndim for each in found]
        return [replace(each, stacked=same) for each, same in zip(found, stays, strict=True)]
    why = f"{call.where()} takes them by number"
    labels = [trace.found.ties.fix(label, {dim}, why) if dim in axes(label) else label
              for label in shadow.labels]  # fmt: skip
    return _place_by_place(call, labels, shadow)


def _place_by_place(call: Call, labels: list[Label], shadow: Shadow) -> list[Shadow]:
    """Does to labels and flags what was done to the tensor, for one result or several."""
    shape = call.args["self"].shape
    flags = tensors_of(_again(call, shadow.varies.expand(shape)))
    moved = [tensors_of(_again(call, label.expand(shape))) for label in labels]
    return [
        Shadow([compact(each[i]) for each in moved], flags[i]) for i in range(len(flags))
    ]  # fmt: skip


def sliced(trace: Trace, call: Call) -> list[Shadow]:
    """A slice of everything changes nothing; another is taken by number."""
    if call.out.shape == call.args["self"].shape:
        return [call.shadow("self")]
    return taken(trace, call)


def split(trace: Trace, call: Call) -> list[Shadow]:
    """Parts of equal size stay of equal size; others are taken by number."""
    shadow, value = call.shadow("self"), call.args["self"]
    dim = call.args["dim"] % value.ndim
    equal = len({part.shape[dim] for part in call.out}) == 1
    if not equal or not any(axes(label) == {dim} for label in shadow.labels):
        return taken(trace, call)
    for label in shadow.labels:
        if axes(label) == {dim}:
            parts = list(label.reshape(len(call.out), -1))
            trace.found.halves.append((call.where(), parts))
    return _place_by_place(call, shadow.labels, shadow)


def shuffled(trace: Trace, call: Call) -> list[Shadow]:
    """Moves elements about by a rule of their shape: repeat, pixel shuffle and the like."""
    shadow = call.shadow("self")
    found = _place_by_place(call, shadow.labels, shadow)
    for label in found[0].labels:
        if len(axes(label)) > 1:
            trace.found.splits.append(Split(call.module, label, (), 0))
    return found


def pad(trace: Trace, call: Call) -> list[Shadow]:
    """A fixed number of places is added; their labels are those of their neighbours."""
    shadow, pad = call.shadow("self"), call.args["pad"]
    rank = call.args["self"].ndim
    padded = {rank - 1 - i // 2 for i, amount in enumerate(pad) if amount}
    labels = []
    for label in shadow.labels:
        if axes(label) <= padded:
            trace.found.ties.lose(label, f"{call.where()} adds a fixed number to them")
        else:
            labels.append(trace.found.ties.tie_along(label, axes(label) & padded))
    varies = aten.constant_pad_nd(shadow.varies.expand(call.args["self"].shape), pad)
    return [Shadow(labels, varies)]


def joined(trace: Trace, call: Call) -> list[Shadow]:
    """Slots of several tensors follow each other along one axis."""
    values = [value for value in call.args["tensors"] if value.numel()]
    if call.op.overloadpacket.__name__ == "stack":
        return _stacked(trace, call)
    out, ties = call.out, trace.found.ties
    dim = call.args["dim"] % out.ndim
    shadows = [call.of(value) for value in values]
    why = f"{call.where()} joins them with what has no such slots"
    across = ties.combine(
        [
            (_without(value.shape, dim), [each for each in shadow.labels if dim not in axes(each)])
            for value, shadow in zip(values, shadows, strict=True)
        ],
        out.ndim,
        why,
    )
    varies = torch.cat([shadow.varies.expand(v.shape)
                        for v, shadow in zip(values, shadows, strict=True)], dim)  # fmt: skip
    along = [ties.vector(shadow.labels, dim, why) for shadow in shadows]
    if all(slots is None for slots in along):
        return [Shadow(across, varies)]
    parts = []
    for value, slots in zip(values, along, strict=True):
        if slots is None:
            slots = ties.fresh(value.shape[dim])
            ties.place(slots, why)
        parts.append(slots)
    shape = [1] * out.ndim
    shape[dim] = -1
    return [Shadow([*across, torch.cat(parts).reshape(shape)], varies)]


def _without(shape: torch.Size, dim: int) -> list[int]:
    return [1 if axis == dim else size for axis, size in enumerate(shape)]


def _stacked(trace: Trace, call: Call) -> list[Shadow]:
    out = call.out
    dim = call.args["dim"] % out.ndim
    values = call.args["tensors"]
    shadows = [call.of(value) for value in values]
    labels = trace.found.ties.combine(
        [
            (value.unsqueeze(dim).shape, [label.unsqueeze(dim) for label in shadow.labels])
            for value, shadow in zip(values, shadows, strict=True)
        ],
        out.ndim,
        f"{call.where()} joins them with what has no such slots",
    )
    flags = [s.varies.expand(v.shape) for v, s in zip(values, shadows, strict=True)]
    return [Shadow(labels, torch.stack(flags, dim))]


def index_select(trace: Trace, call: Call) -> list[Shadow]:
    """Places are chosen by numbers; where these depend on inputs, no slots may be among them."""
    shadow, value = call.shadow("self"), call.args["self"]
    if not bool(call.shadow("index").varies.any()):
        return taken(trace, call)
    dim = call.args["dim"] % value.ndim
    if any(dim in axes(label) for label in shadow.labels):
        return unknown(trace, call)
    differs = (value != value.narrow(dim, 0, min(1, value.shape[dim]))).any(dim, keepdim=True)
    varies = shadow.varies.expand(value.shape).any(dim, keepdim=True) | differs
    return [Shadow(shadow.labels, varies.expand(call.out.shape))]


def packed(trace: Trace, call: Call) -> list[Shadow]:
    """Sequences [samples, time, ...] become one after another, with the number at each time."""
    data, sizes = call.out
    found = _in_time(trace, call, call.args["input"], data, axis=2)
    return [found, shadow_of(sizes, varies=bool(call.shadow("lengths").varies.any()))]


def padded(trace: Trace, call: Call) -> list[Shadow]:
    """Sequences one after another become [samples, time, ...], with a constant behind their end.

    Torch writes them there one time after another, which cannot be followed.
    """
    data, lengths = call.out
    value, filled = call.args["data"], call.args["padding_value"]
    found = _in_time(trace, call, value, data, axis=1)
    others = (value != filled).any(0, keepdim=True)
    if bool(call.shadow("batch_sizes").varies.any()):
        found = replace(found, varies=found.varies | others)
    return [found, shadow_of(lengths, varies=bool(call.shadow("batch_sizes").varies.any()))]


def _in_time(trace: Trace, call: Call, old: Tensor, new: Tensor, *, axis: int) -> Shadow:
    """Labels what is laid out anew along the axes of samples and time, those before ``axis``."""
    shadow, more = call.of(old), new.ndim - old.ndim
    before, why = set(range(axis)), f"{call.where()} lays them out anew"
    labels: list[Label] = []
    for label in shadow.labels:
        if axes(label) <= before:
            trace.found.ties.lose(label, why)
        else:
            label = trace.found.ties.tie_along(label, axes(label) & before)
            labels.append(label.reshape([1] * (axis + more) + list(label.shape[axis:])))
    varies = shadow.varies.expand(old.shape).flatten(0, axis - 1).any(0)
    return Shadow(labels, varies.expand(new.shape))
