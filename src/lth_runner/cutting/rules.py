"""How labels pass through the operations that a network is made of: each operation its rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch

from lth_runner.cutting import convolutions, moves, norms, products
from lth_runner.cutting.labels import Shadow, axes, compact
from lth_runner.cutting.trace import Call, Rule, Trace
from lth_runner.cutting.unknown import tensors_of, unknown


def rule_of(func: Any) -> Rule:
    """Finds the rule of an operation; one that is not known keeps all that it reads."""
    name = func.overloadpacket.__name__
    plain = name.rstrip("_") if not name.startswith("__") else name
    if plain in _RULES:
        return _RULES[plain]
    return _pointwise if torch.Tag.pointwise in func.tags else unknown


def _pointwise(trace: Trace, call: Call) -> list[Shadow]:
    out = tensors_of(call.out)[0]
    operands = call.operands()
    labels = trace.found.ties.combine(
        [(value.shape, shadow.labels) for value, shadow in operands],
        out.ndim,
        f"{call.where()} joins them with what has no such slots",
    )
    flags = [shadow.varies for _, shadow in operands]
    varies = torch.zeros((), dtype=torch.bool, device=out.device).expand(out.shape)
    if call.op.overloadpacket.__name__.startswith("mul") and len(operands) == 2:
        (one, _), (other, _) = operands  # a constant 0 silences what it is multiplied with
        varies = (flags[0] & ((other != 0) | flags[1])) | (flags[1] & ((one != 0) | flags[0]))
    else:
        for flag in flags:
            varies = varies | flag
    return [Shadow(labels, varies.expand(out.shape))]


def _window(rank: int) -> Rule:
    """Pools and resampling treat each channel by itself, over ``rank`` axes of places."""

    def rule(trace: Trace, call: Call) -> list[Shadow]:
        value, shadow = call.operands()[0]
        places = set(range(value.ndim - rank, value.ndim))
        labels = [trace.found.ties.tie_along(label, axes(label) & places)
                  for label in shadow.labels]  # fmt: skip
        varies = shadow.varies.expand(value.shape)
        for axis in places:
            varies = varies.any(axis, keepdim=True)
        return [Shadow(labels, varies.expand(out.shape)) for out in tensors_of(call.out)]

    return rule


def _gated(trace: Trace, call: Call) -> list[Shadow]:
    """A gated linear unit multiplies one half of its channels with what the other half says."""
    value, shadow = call.args["self"], call.shadow("self")
    dim = call.args["dim"] % value.ndim
    parts = []
    for half in range(2):
        size = value.shape[dim] // 2
        labels = [label.narrow(dim, half * size, size) if dim in axes(label) else label
                  for label in shadow.labels]  # fmt: skip
        parts.append((call.out.shape, [compact(label) for label in labels]))
    labels = trace.found.ties.combine(parts, value.ndim, call.where())
    one, other = shadow.varies.expand(value.shape).chunk(2, dim)
    return [Shadow(labels, one | other)]


def _embedding(trace: Trace, call: Call) -> list[Shadow]:
    weight, shadow, ties = call.args["weight"], call.shadow("weight"), trace.found.ties
    why = f"{call.where()} is looked up by number"
    rows = ties.vector(shadow.labels, 0, why)
    if rows is not None:
        ties.lose(rows, why)
    columns = ties.vector(shadow.labels, 1, why)
    out = call.out
    labels = [] if columns is None else [columns.reshape([1] * (out.ndim - 1) + [-1])]
    differs = (weight != weight[:1]).any(0)
    varies = call.shadow("indices").varies.expand(out.shape[:-1])[..., None] & differs
    return [Shadow(labels, varies)]


def _many(rule: Rule, *names: str) -> Mapping[str, Rule]:
    return dict.fromkeys(names, rule)


_RULES: Mapping[str, Callable[[Trace, Call], list[Shadow]]] = MappingProxyType({
    **_many(moves.same, "clone", "detach", "alias", "contiguous", "_to_copy", "lift_fresh",
            "dropout", "as_strided", "_prelu_kernel_input"),
    **_many(moves.like, "zeros_like", "ones_like", "empty_like", "full_like"),
    **_many(moves.overwritten, "copy", "fill", "zero", "index_put", "masked_scatter", "scatter"),
    **_many(_pointwise, "_prelu_kernel", "hardswish", "hardsigmoid", "hardtanh", "masked_fill"),
    **_many(moves.reshape, "view", "_unsafe_view", "reshape", "unsqueeze", "squeeze"),
    **_many(moves.reordered, "permute", "transpose", "t"),
    **_many(moves.expand, "expand"),
    **_many(moves.taken, "select", "unbind", "unfold", "narrow"),
    **_many(moves.sliced, "slice"),
    **_many(moves.split, "split", "split_with_sizes", "chunk"),
    **_many(moves.shuffled, "repeat", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
            "native_channel_shuffle"),
    **_many(moves.pad, "constant_pad_nd"),
    **_many(moves.joined, "cat", "stack"),
    **_many(norms.reduced, "mean", "sum", "amax", "amin", "var", "std", "prod", "logsumexp",
            "max", "min", "median", "argmax", "argmin", "aminmax", "any", "all",
            "var_mean", "linalg_vector_norm"),
    **_many(norms.softmax, "_softmax", "_log_softmax", "_safe_softmax"),
    **_many(_gated, "glu"),
    **_many(norms.batch_norm, "native_batch_norm", "_native_batch_norm_legit_no_training",
            "_native_batch_norm_legit", "cudnn_batch_norm", "miopen_batch_norm"),
    **_many(norms.layer_norm, "native_layer_norm"),
    **_many(norms.group_norm, "native_group_norm"),
    **_many(_embedding, "embedding"),
    **_many(moves.index_select, "index_select"),
    **_many(moves.packed, "_pack_padded_sequence"),
    **_many(convolutions.convolution, "convolution"),
    **_many(products.matrix, "addmm", "mm"),
    **_many(products.batched, "bmm"),
    **{
        f"{name}{rank}d{end}": _window(rank)
        for rank in (1, 2, 3)
        for name, end in (
            ("max_pool", "_with_indices"), ("max_pool", ""), ("avg_pool", ""),
            ("_adaptive_avg_pool", ""), ("adaptive_avg_pool", ""), ("adaptive_max_pool", ""),
            ("reflection_pad", ""), ("replication_pad", ""), ("upsample_nearest", ""),
        )
    },
    **_many(_window(1), "upsample_linear1d"),
    **_many(_window(2), "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_nearest_exact2d"),
    **_many(_window(3), "upsample_trilinear3d"),
})  # fmt: skip
