"""How labels pass through convolutions and matrix products, and what each output hears."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lth_runner.export.shrink.labels import Label, Shadow, axes, reshaped
from lth_runner.export.shrink.trace import Call, Grouped, Product, Trace


@dataclass(frozen=True)
class _Side:
    """Inputs of a product: their labels, which vary, and the value of each that does not.

    ``values`` [inputs, places]
    """

    labels: Tensor
    varies: Tensor
    values: Tensor

    def uniform(self) -> Tensor:
        """Whether an input is the same constant everywhere."""
        spread = self.values.amax(1) - self.values.amin(1)
        return ~self.varies & (spread <= 1e-12 * self.values.abs().amax(1))

    def silent(self) -> Tensor:
        return ~self.varies & (self.values == 0).all(1)


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
        inputs = _met(trace, inputs, columns, shadow.varies, why)
    elif depthwise:
        _go_together(trace, inputs, rows, shadow.varies, why)
        inputs = None
    elif not transposed and kept.root and inputs is not None and rows is not None:
        inputs = _in_groups(trace, call, inputs, rows, columns)
    else:
        _keep(trace, (inputs, rows, columns), f"{call.where()} is transposed and in groups")
        inputs = None
    varies = _reached(call, shadow.varies.expand(value.shape), weight)
    if not depthwise:
        by_channel = value.transpose(0, 1).flatten(1)
        flags = shadow.varies.expand(value.shape).transpose(0, 1).flatten(1).any(1)
        side = _Side(_or_none(inputs, value.shape[1]), flags, by_channel)
        padded = any(call.args["padding"]) or transposed
        matrix = weight.transpose(0, 1) if transposed else weight
        _hear(trace, call, side, _or_none(rows, call.out.shape[1]), _spread(matrix, groups),
              padded=padded, bias=_bias(trace, call, "bias", kept),
              carried=None if transposed or groups > 1 else kept.root)  # fmt: skip
    shape = [1, -1] + [1] * (value.ndim - 2)
    labels = [] if rows is None else [rows.reshape(shape)]
    if rows is not None and isinstance(call.args["bias"], Tensor):
        for label in call.shadow("bias").labels:
            ties.tie(label, rows)
    return [Shadow(labels, varies)]


def _or_none(slots: Tensor | None, num: int) -> Tensor:
    return torch.zeros(num, dtype=torch.int64) if slots is None else slots


def _met(
    trace: Trace, one: Tensor | None, other: Tensor | None, varies: Tensor, why: str
) -> Tensor | None:
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


def _keep(trace: Trace, all_slots: tuple[Tensor | None, ...], why: str) -> None:
    for slots in all_slots:
        if slots is not None:
            trace.found.ties.lose(slots, why)


def _go_together(
    trace: Trace, inputs: Tensor | None, rows: Tensor | None, varies: Tensor, why: str
) -> None:
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


def _reached(call: Call, varies: Tensor, weight: Tensor) -> Tensor:
    """Finds the outputs that an input reaches through weights that are not 0."""
    args = [call.args[name] for name in ("stride", "padding", "dilation", "transposed",
                                         "output_padding", "groups")]  # fmt: skip
    if bool(varies.all()) and bool((weight != 0).all()):
        return torch.ones_like(call.out, dtype=torch.bool)
    found = torch.ops.aten.convolution(varies.float(), (weight != 0).float(), None, *args)
    reached: Tensor = found > 0.5
    return reached


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


def _bias(trace: Trace, call: Call, name: str, weight: Shadow) -> str | None:
    """Names the bias that a constant can move into, there or not; None where there is none."""
    if isinstance(call.args.get(name), Tensor):
        return call.shadow(name).root
    layer = trace.modules[call.module]
    prefix = f"{call.module}." if call.module else ""
    owned = isinstance(layer, (nn.Linear, _ConvNd)) and weight.root is not None
    same = owned and trace.roots.get(id(layer.weight)) == weight.root
    return f"{prefix}bias" if same else None


def _hear(
    trace: Trace,
    call: Call,
    side: _Side,
    outputs: Tensor,
    weight: Tensor,
    *,
    padded: bool,
    bias: str | None,
    carried: str | None = None,
) -> None:
    """Remembers which output hears which input, and what constants send."""
    nonzero = (weight != 0).any(2)
    silent, uniform = side.silent(), side.uniform()
    movable = silent if padded or bias is None else silent | uniform
    loud = movable & ~silent & nonzero.any(0)
    which = loud.nonzero().reshape(-1)
    sent = None if carried else (weight[:, which].sum(2) * side.values[which, 0]).cpu()
    where = call.module or "the network"
    why = f"what they send to {where} is not the same everywhere"
    if padded or bias is None:
        reason = "has zero padding" if padded else "has no bias of its own"
        why = f"{where} {reason}, so their constant cannot move into its bias"
    carry = uniform & ~movable if carried else torch.zeros_like(uniform)
    trace.found.ties.note(side.labels, (~side.varies & ~movable).cpu(), why)
    trace.found.products.append(
        Product(
            call.module, side.labels, outputs, side.varies.cpu(), (nonzero & ~silent).cpu(),
            movable.cpu(), which.cpu(), sent, bias, carry.cpu(), side.values[:, 0].cpu().clone(),
            carried,
        )
    )  # fmt: skip


def matrix(trace: Trace, call: Call) -> list[Shadow]:
    """The product of two matrices, with a bias (addmm) or without (mm)."""
    first, second = ("mat1", "mat2") if "mat1" in call.args else ("self", "mat2")
    one, other = call.shadow(first), call.shadow(second)
    left, right = call.args[first], call.args[second]
    plain = call.args.get("beta", 1) == 1 and call.args.get("alpha", 1) == 1
    labels = _matrix_product(trace, call, (one, left), (other, right), plain=plain)
    flags = _matrix_reached(one.varies.expand(left.shape), left, other.varies.expand(right.shape),
                            right)  # fmt: skip
    if first == "mat1":
        bias, kept = call.args["self"], call.shadow("self")
        labels = trace.found.ties.combine(
            [(call.out.shape, labels), (bias.shape, kept.labels)], 2, call.where()
        )
        flags = flags | kept.varies
    return [Shadow(labels, flags)]


def _matrix_product(
    trace: Trace,
    call: Call,
    left: tuple[Shadow, Tensor],
    right: tuple[Shadow, Tensor],
    *,
    plain: bool,
) -> list[Label]:
    (one, a), (other, b), ties = left, right, trace.found.ties
    why = f"{call.where()} has no such slots on the other side"
    for label in [*one.labels, *other.labels]:
        if len(axes(label)) > 1:
            ties.lose(label, f"{call.where()} sees two axes of them")
    ins, columns = ties.vector(one.labels, 1, why), ties.vector(other.labels, 1, why)
    rows = _only(one.labels, 0)
    inner = _met(trace, ins, ties.vector(other.labels, 0, why), one.varies, why)
    labels = [] if rows is None else [rows.reshape(-1, 1)]
    if columns is not None:
        labels.append(columns.reshape(1, -1))
    swapped = bool(other.varies.any())
    if swapped and bool(one.varies.any()):
        if inner is not None:
            ties.hear(inner, one.varies.expand(a.shape).any(0), f"{call.where()} multiplies them")
        return labels
    if swapped:  # the weights are on the left
        weight, values, flags, kept, out = a, b, other.varies.expand(b.shape), one, rows
    else:
        weight, values, flags, kept, out = b.T, a.T, one.varies.expand(a.shape).T, other, columns
    side = _Side(_or_none(inner, weight.shape[1]), flags.any(1), values)
    bias = _bias(trace, call, "self" if "mat1" in call.args else "bias", kept)
    usable = bias if plain and not swapped else None
    # a linear layer's weight is [outputs, inputs] in memory: a parameter as it stands
    carried = kept.root if not swapped and weight.is_contiguous() else None
    _hear(trace, call, side, _or_none(out, len(weight)), weight[:, :, None], padded=False,
          bias=usable, carried=carried)  # fmt: skip
    return labels


def _only(labels: list[Label], axis: int) -> Tensor | None:
    for label in labels:
        if axes(label) == {axis}:
            return label.reshape(-1)
    return None


def _matrix_reached(one: Tensor, left: Tensor, other: Tensor, right: Tensor) -> Tensor:
    """Finds the entries of a product that an entry that varies reaches; a constant 0 stops it."""
    found = torch.zeros((), dtype=torch.bool, device=left.device)
    if bool(one.any()):
        found = found | (one.float() @ ((right != 0) | other).float() > 0.5)
    if bool(other.any()):
        found = found | (((left != 0) | one).float() @ other.float() > 0.5)
    return found.expand(*left.shape[:-1], right.shape[-1])


def batched(trace: Trace, call: Call) -> list[Shadow]:
    """Products of matrices one by one, of which those of attention are: heads go as a whole."""
    a, b, ties = call.args["self"], call.args["mat2"], trace.found.ties
    one, other = call.shadow("self"), call.shadow("mat2")
    flags = _matrix_reached(one.varies.expand(a.shape), a, other.varies.expand(b.shape), b)
    if not bool(other.varies.any()) and bool((b == b[:1]).all()):
        return [Shadow(_one_matrix(trace, call), flags)]
    why = f"{call.where()} has no such slots on the other side"
    sides, inner = [], []
    for shadow, axis in ((one, 2), (other, 1)):
        outer = []
        for label in shadow.labels:
            if axes(label) == {axis}:
                inner.append((label.reshape(-1), shadow.varies))
            else:
                outer.append(ties.tie_along(label, {axis}))
        sides.append(outer)
    if len(inner) == 2:
        ties.tie(inner[0][0], inner[1][0])
    for slots, varies in inner:
        ties.hear(slots, varies.any().expand(len(slots)), f"{call.where()} multiplies them")
    shapes = [[*a.shape[:2], 1], [len(b), 1, b.shape[2]]]
    labels = ties.combine(list(zip(shapes, sides, strict=True)), 3, why)
    if one.sums_to_one:  # a weighted mean of equal rows is such a row
        kept = other.varies.expand(b.shape).any(1, keepdim=True)
        flags = flags & (kept | (b != b[:, :1]).any(1, keepdim=True))
    return [Shadow(labels, flags)]


def _one_matrix(trace: Trace, call: Call) -> list[Label]:
    """Labels the product of all rows of a batch with one matrix."""
    a, b = call.args["self"], call.args["mat2"]
    one, other = call.shadow("self"), call.shadow("mat2")
    flat = (len(a) * a.shape[1], a.shape[2])
    left = Shadow([reshaped(label, a.shape, flat) for label in one.labels],
                  one.varies.expand(a.shape).reshape(flat))  # fmt: skip
    labels = []
    for label in other.labels:
        if len(label) > 1:
            label = trace.found.ties.fix(label, {0}, call.where())
        labels.append(label[0])
    right = Shadow(labels, other.varies.expand(b.shape)[0], other.root)
    found = _matrix_product(trace, call, (left, a.reshape(flat)), (right, b[0]), plain=True)
    rows = (flat[0], call.out.shape[2])
    return [reshaped(label, rows, call.out.shape) for label in found]
