"""The heads of a transformer: which rows and columns of which matrices are each one's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from lth_runner.problem.covers import is_conv1d
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask

# by the ends of names, in the library transformers, in torch and in this program
MATRICES = MappingProxyType({
    "query": r"(query|query_proj|q_proj|q_lin|\w*Attention\.q|attn\.q)",
    "key": r"(key|key_proj|k_proj|k_lin|\w*Attention\.k|attn\.k)",
    "value": r"(value|value_proj|v_proj|v_lin|\w*Attention\.v|attn\.v)",
    "attention output": r"(attention\.(output\.dense|projection)|\w*attention\.dense|out_proj"
    r"|o_proj|out_lin|\w*Attention\.o|attn\.(c_proj|o|Wo))",
    "intermediate": r"(intermediate\.dense|expand|lin1|fc1|up_proj|gate_proj|gate_up_proj"
    r"|wi(_\d)?|mlp\.(c_fc|Wi|0)|dense_h_to_4h|fc_in|ffn)",
    "output": r"(output\.dense|contract|lin2|fc2|down_proj|wo|mlp\.(c_proj|Wo|3)|dense_4h_to_h"
    r"|fc_out|ffn_output)",
})  # fmt: skip
TOGETHER = "query, key and value"  # one matrix of all three
# its outputs one kind after the other, those of all heads (Conv1D is asked for by its layer)
BY_KIND = r"(in_proj_weight|Wqkv|qkv_proj)"
# or head after head, with their key and value behind the queries that share it
BY_HEAD = r"(query_key_value|in_proj|c_attn)"
QUERY, KEY, VALUE, OUTPUT = "query", "key", "value", "attention output"
OF_A_HEAD = (QUERY, KEY, VALUE, OUTPUT)
NUMBERS = ("num_attention_heads", "num_heads", "n_heads", "heads")  # how layers call theirs


def kind_of(name: str) -> str:
    """Names the kind of a matrix by its parameter's name; the layer's own name where it is none."""
    layer = name.removesuffix(".weight")
    for kind, ends in MATRICES.items():
        if re.search(rf"(^|\.){ends}$", layer):
            return kind
    together = re.search(rf"(^|\.)({BY_KIND}|{BY_HEAD})$", layer)
    return TOGETHER if together else layer.rpartition(".")[2]


@dataclass(frozen=True)
class Part:
    """A head's rows or columns of one matrix."""

    name: str
    axis: int
    start: int
    size: int

    def of(self, matrix: Tensor) -> Tensor:
        """Takes them from the matrix, as a view."""
        return matrix.narrow(self.axis, self.start, self.size)


@dataclass(frozen=True)
class Heads:
    """The heads of one attention, each with its part of every kind; heads may share a part."""

    parts: tuple[Mapping[str, Part], ...]

    @property
    def num(self) -> int:
        """How many there are."""
        return len(self.parts)

    def is_dead(self, mask: Mask, head: int) -> bool:
        """Whether one of its parts that a mask covers has no weight left."""
        own = self.parts[head].values()
        return any(not part.of(mask[part.name]).any() for part in own if part.name in mask)


def heads_of(module: nn.Module, mask: Mask) -> dict[str, Heads]:
    """Finds the attentions of a network that a mask covers: the path of each -> its heads.

    How many heads there are say the attention's layers, by number or by size, or the network's
    config; how many of them share a key follows from the shapes.
    Raises UserError where there is none, or where one is of no known kind.
    """
    matrices: dict[str, dict[str, str]] = {}
    for name in dict(module.named_parameters()):
        kind = kind_of(name)
        if kind in (*OF_A_HEAD, TOGETHER) and (path := _attention(name)):
            matrices.setdefault(path, {})[kind] = name
    asking = {path: own for path, own in matrices.items() if own.keys() - {OUTPUT}}
    covered = {p: own for p, own in asking.items() if any(name in mask for name in own.values())}
    if not covered:
        raise UserError(
            "probe.dead_heads looks at matrices of queries, keys, values and outputs of a model of "
            "transformers, or of model=vit and the transformers beside it, and this network has "
            "none that a mask covers (their deltas and adapters are no matrices of heads): leave "
            "it out"
        )
    return {path: _heads(module, path, own) for path, own in covered.items()}


def _attention(name: str) -> str:
    """Names the attention that a matrix belongs to: up to the last part that says so."""
    parts = name.removesuffix(".weight").split(".")[:-1]
    last = max((place for place, part in enumerate(parts) if "att" in part.lower()), default=-1)
    end = last + 1
    numbered = last >= 0 and end < len(parts) and parts[end].isdigit()  # one of a list of them
    return ".".join(parts[: end + numbered])


def _heads(module: nn.Module, path: str, names: Mapping[str, str]) -> Heads:
    """Cuts the matrices of one attention into those of its heads."""
    apart = set(names) == set(OF_A_HEAD)
    # CodeGen and MiniMax have their qkv_proj in orders of their own, before another output
    alien = ".qkv_proj." in names.get(TOGETHER, "") and ".o_proj." not in names.get(OUTPUT, "")
    if alien or (not apart and set(names) != {TOGETHER, OUTPUT}):
        raise _unknown(path, f"has {', '.join(sorted(names.values()))}")
    axes = {kind: int(_is_transposed(module, name)) for kind, name in names.items()}  # of outputs
    sizes = {kind: module.get_parameter(name).shape for kind, name in names.items()}
    inputs = 1 - axes[OUTPUT]
    width = sizes[OUTPUT][inputs]
    num = _number(module, path, width)
    size = width // max(num, 1)
    rows = {kind: of[axes[kind]] for kind, of in sizes.items() if kind != OUTPUT}
    num_keys = rows[KEY] // max(size, 1) if apart else (rows[TOGETHER] // max(size, 1) - num) // 2
    told = {QUERY: num, KEY: num_keys, VALUE: num_keys} if apart else {TOGETHER: num + 2 * num_keys}
    fits = num > 0 and num_keys > 0 and width % num == 0 and num % num_keys == 0
    if not fits or rows != {kind: many * size for kind, many in told.items()}:
        shapes = ", ".join(f"{names[kind]} {list(of)}" for kind, of in sizes.items())
        raise _unknown(path, f"has {num} heads, which do not share out {shapes}")
    held = {kind: kind if apart else TOGETHER for kind in (QUERY, KEY, VALUE)}
    if apart:
        places = _by_kind(num, num_keys, starts=(0, 0, 0))
    elif _is_by_head(module, names[TOGETHER]):
        places = _by_head(num, num_keys)
    else:
        places = _by_kind(num, num_keys, starts=(0, num, num + num_keys))
    parts = [
        {kind: Part(names[of], axes[of], place * size, size)
         for (kind, of), place in zip(held.items(), found, strict=True)}
        | {OUTPUT: Part(names[OUTPUT], inputs, head * size, size)}
        for head, found in enumerate(places)
    ]  # fmt: skip
    return Heads(tuple(parts))


def _is_by_head(module: nn.Module, name: str) -> bool:
    """Whether one matrix of queries, keys and values has its outputs head after head."""
    named = re.search(rf"(^|\.){BY_HEAD}$", name.removesuffix(".weight"))
    return named is not None and not _is_transposed(module, name)


def _by_kind(
    num: int, num_keys: int, *, starts: tuple[int, int, int]
) -> Iterator[tuple[int, int, int]]:
    """Counts, in heads, where the query, key and value of each head begin: kind after kind."""
    for head in range(num):
        key = head * num_keys // num
        yield starts[0] + head, starts[1] + key, starts[2] + key


def _by_head(num: int, num_keys: int) -> Iterator[tuple[int, int, int]]:
    """Counts them where those that share a key stand together: queries, their key, their value."""
    sharing = num // num_keys
    for head in range(num):
        start = head // sharing * (sharing + 2)
        yield start + head % sharing, start + sharing, start + sharing + 1


def _number(module: nn.Module, path: str, width: int) -> int:
    """Asks the attention's layers how many heads there are, or how large one is, or the config."""
    layers = list(module.get_submodule(path).modules())
    for key in NUMBERS:
        for layer in layers:
            if isinstance(found := getattr(layer, key, None), int):
                return found
    for layer in layers:
        if isinstance(found := getattr(layer, "head_dim", None), int) and found:
            return width // found
    config: Any = getattr(module, "config", None)
    found = getattr(config, "num_attention_heads", None)
    if not isinstance(found, int):
        raise _unknown(path, "does not say how many heads it has")
    return found


def _is_transposed(module: nn.Module, name: str) -> bool:
    """Whether a matrix is (in, out), as transformers' Conv1D has it."""
    return is_conv1d(module.get_submodule(name.rpartition(".")[0]))


def _unknown(path: str, why: str) -> UserError:
    return UserError(
        f"probe.dead_heads cannot tell the heads of {path} apart: it {why}. It knows matrices of "
        "queries, keys, values and outputs, apart or the first three in one: leave it out"
    )
