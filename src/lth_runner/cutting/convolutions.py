"""How labels pass through convolutions."""

from __future__ import annotations

import torch
from torch import Tensor

from lth_runner.cutting.found import Grouped
from lth_runner.cutting.heard import Side, bias_of, hear, met, or_none
from lth_runner.cutting.labels import Shadow, axes
from lth_runner.cutting.trace import Call, Trace


def convolution(trace: Trace, call: Call) -> list[Shadow]:
    """Each output hears the channels of its group; a depthwise one goes with its input."""
    value, weight = call.args["input"], call.args["weight"]
    shadow, ties = call.shadow("input"), trace.found.ties
    why = f"{call.where()} has no such slots on the other side"
    inputs = ties.vector(shadow.labels, 1, why)
    for label in shadow.labels:
        if 1 not in axes(label):
            ties.lose(label, f"{call.where()} passes over them")
    groups, transposed = call.args["groups"], call.args["transposed"]
    kept = call.shadow("weight")
    into, out = (0, 1) if transposed else (1, 0)
    rows = ties.vector(kept.labels, out, why)
    columns = ties.vector(kept.labels, into, why)
    for label in kept.labels:
        if not axes(label) & {0, 1}:
            ties.place(label, "they are places of a kernel")
    depthwise = groups > 1 and weight.shape[1] == 1 and not transposed
    if groups == 1:
        inputs = met(trace, inputs, columns, why)
    elif depthwise:
        _go_together(trace, inputs, rows, why)
        inputs = None
    elif not transposed and kept.root and inputs is not None and rows is not None:
        inputs = _in_groups(trace, call, inputs, rows, columns)
    elif transposed and kept.root and inputs is not None and columns is not None:
        inputs, rows = _transposed_in_groups(trace, call, inputs, columns, rows)
    else:
        _keep(trace, (inputs, rows, columns), f"{call.where()} is in groups, of what has no slots")
        inputs = rows = None
    varies = _reached(call, shadow.varies.expand(value.shape), weight)
    if not depthwise:
        by_channel = value.transpose(0, 1).flatten(1)
        flags = shadow.varies.expand(value.shape).transpose(0, 1).flatten(1).any(1)
        side = Side.of(or_none(inputs, value.shape[1]), flags, by_channel)
        obstacle = "is transposed" if transposed else ""
        obstacle = obstacle or ("has zero padding" if any(call.args["padding"]) else "")
        matrix = _outputs_first(weight, groups) if transposed else weight
        hear(trace, call.module, side, or_none(rows, call.out.shape[1]), _spread(matrix, groups),
              bias=bias_of(trace, call, "bias", kept), obstacle=obstacle,
              carried=None if transposed or groups > 1 else kept.root)  # fmt: skip
    shape = [1, -1] + [1] * (value.ndim - 2)
    labels = [] if rows is None else [rows.reshape(shape)]
    for label in call.shadow("bias").labels if isinstance(call.args["bias"], Tensor) else ():
        if rows is None:
            ties.lose(label, why)
        else:
            ties.tie(label, rows)
    return [Shadow(labels, varies)]


def _keep(trace: Trace, all_slots: tuple[Tensor | None, ...], why: str) -> None:
    for slots in all_slots:
        if slots is not None:
            trace.found.ties.lose(slots, why)


def _go_together(trace: Trace, inputs: Tensor | None, rows: Tensor | None, why: str) -> None:
    """Ties each input of a depthwise convolution to its outputs."""
    if inputs is not None and rows is not None:
        trace.found.ties.tie(inputs.repeat_interleave(len(rows) // len(inputs)), rows)
    else:
        _keep(trace, (inputs, rows), why)


def _in_groups(
    trace: Trace, call: Call, inputs: Tensor, rows: Tensor, columns: Tensor | None
) -> Tensor:
    found, root, groups = trace.found, call.shadow("weight").root, call.args["groups"]
    assert root is not None
    if columns is not None:
        found.ties.place(columns, "")  # each group has columns of its own: labelled below
    if root not in found.grouped:
        own = found.ties.fresh(len(inputs))
        found.grouped[root] = Grouped(
            call.module, root, own.reshape(groups, -1), rows.reshape(groups, -1)
        )
    found.ties.tie(found.grouped[root].inputs.reshape(-1), inputs)
    return inputs


def _transposed_in_groups(
    trace: Trace, call: Call, inputs: Tensor, own: Tensor, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Labels the outputs of each group, which share the second axis of the weight."""
    found, root, groups = trace.found, call.shadow("weight").root, call.args["groups"]
    assert root is not None
    if rows is not None:
        found.ties.place(rows, "")  # labelled by group, below
    if root not in found.grouped:
        outputs = found.ties.fresh(call.out.shape[1])
        found.grouped[root] = Grouped(
            call.module, root, own.reshape(groups, -1), outputs.reshape(groups, -1), transposed=True
        )
    found.ties.tie(found.grouped[root].inputs.reshape(-1), inputs)
    return inputs, found.grouped[root].outputs.reshape(-1)


def _reached(call: Call, varies: Tensor, weight: Tensor) -> Tensor:
    """Finds the outputs that an input reaches through weights that are not 0."""
    args = [call.args[name] for name in ("stride", "padding", "dilation", "transposed",
                                         "output_padding", "groups")]  # fmt: skip
    if bool(varies.all()) and bool((weight != 0).all()):
        return torch.ones_like(call.out, dtype=torch.bool)
    found = torch.ops.aten.convolution(varies.float(), (weight != 0).float(), None, *args)
    reached: Tensor = found > 0.5
    return reached


def _outputs_first(weight: Tensor, groups: int) -> Tensor:
    """Turns a transposed convolution's [inputs, outputs of a group, ...] as others have theirs."""
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)


def _spread(weight: Tensor, groups: int) -> Tensor:
    """Lays out the weights of a grouped convolution as [outputs, all inputs, places]."""
    flat = weight.flatten(2)
    if groups == 1:
        return flat
    outputs, inputs, places = flat.shape
    full = flat.new_zeros(groups, outputs // groups, groups, inputs, places)
    for group, part in enumerate(flat.reshape(groups, -1, inputs, places)):
        full[group, :, group] = part
    return full.reshape(outputs, groups * inputs, places)
