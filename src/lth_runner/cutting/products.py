"""How labels pass through products of matrices, those of attention among them."""

from __future__ import annotations

import torch
from torch import Tensor

from lth_runner.cutting.heard import Side, bias_of, hear, met, or_none
from lth_runner.cutting.labels import Label, Shadow, axes, reshaped
from lth_runner.cutting.trace import Call, Trace


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
    inner = met(trace, ins, ties.vector(other.labels, 0, why), why)
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
    side = Side.of(or_none(inner, weight.shape[1]), flags.any(1), values)
    bias = bias_of(trace, call, "self" if "mat1" in call.args else "bias", kept)
    usable = bias if plain and not swapped else None
    # a linear layer's weight is [outputs, inputs] in memory: a parameter as it stands
    carried = kept.root if not swapped and weight.is_contiguous() else None
    hear(trace, call.module, side, or_none(out, len(weight)), weight[:, :, None], bias=usable,
          carried=carried)  # fmt: skip
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
    sides, inner, within = [], [], []
    for shadow, axis in ((one, 2), (other, 1)):
        outer = []
        for label in shadow.labels:
            if axes(label) == {axis}:
                inner.append((label.reshape(-1), shadow.varies))
            else:
                within += [label.transpose(axis, 2)] if axis in axes(label) else []
                outer.append(ties.tie_along(label, {axis}, whole=True))
        sides.append(outer)
    if len(inner) == 2:
        ties.tie(inner[0][0], inner[1][0])
    if len(within) == 2:
        ties.tie(*within)
        trace.found.heads.append(within[0])
    trace.found.heads += [label for label in other.labels if axes(label) == {0, 2}]
    for slots, varies in inner:
        why = f"{call.where()} multiplies them"
        ties.hear(slots, varies.any().expand(len(slots)), why, movable=len(inner) == 2)
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
