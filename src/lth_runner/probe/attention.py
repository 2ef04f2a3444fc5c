"""Probes of transformers: densities by kind of matrix, and heads that a mask has emptied."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from lth_runner.probe.probe import Value
from lth_runner.problem.covers import is_conv1d
from lth_runner.problem.task import Task
from lth_runner.search.final_outcomes import final_outcomes
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State

# by the ends of names in BERT, RoBERTa, ELECTRA, DeBERTa, DistilBERT, OPT, Llama and their kin, T5,
# and of the transformers of this program
MATRICES = MappingProxyType({
    "query": r"(query|query_proj|q_proj|q_lin|\w*Attention\.q)",
    "key": r"(key|key_proj|k_proj|k_lin|\w*Attention\.k)",
    "value": r"(value|value_proj|v_proj|v_lin|\w*Attention\.v)",
    "attention output": r"(attention\.(output\.dense|projection)|out_proj|o_proj|out_lin"
    r"|\w*Attention\.o)",
    "intermediate": r"(intermediate\.dense|expand|lin1|fc1|up_proj|gate_proj|wi(_\d)?)",
    "output": r"(output\.dense|contract|lin2|fc2|down_proj|wo)",
})  # fmt: skip
OF_A_HEAD = ("query", "key", "value", "attention output")


def kind_of(name: str) -> str:
    """Names the kind of a matrix by its parameter's name; the layer's own name where it is none."""
    layer = name.removesuffix(".weight")
    for kind, ends in MATRICES.items():
        if re.search(rf"(^|\.){ends}$", layer):
            return kind
    return layer.rpartition(".")[2]


@dataclass(frozen=True)
class MatrixDensity:
    """Measures ``density_by_matrix``: the share of kept weights of each kind of matrix.

    Kinds are query, key, value, attention output, intermediate and output, over all blocks;
    matrices of other names stand under their layer's. By block they are in ``layer_density``.
    """

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        kept: dict[str, int] = {}
        all_: dict[str, int] = {}
        for name, one in trained.mask.of_weights().items():
            kind = kind_of(name)
            kept[kind] = kept.get(kind, 0) + int(one.sum())
            all_[kind] = all_.get(kind, 0) + one.numel()
        yield "density_by_matrix", {kind: kept[kind] / num for kind, num in all_.items()}


@dataclass(frozen=True)
class DeadHeads:
    """Counts attention heads that a mask has emptied, and measures what they still do.

    A head is dead where its part of the query's, the key's, the value's or the output's matrix has
    no kept weight: its rows, and of the output its columns. ``dead_heads`` is their share among
    all, ``num_heads``, with ``dead_heads_by_block``; and where there are some,
    ``test_<headline>_without_dead_heads`` is the headline measure with their columns of the output
    and nothing else set to zero, which takes out what their biases add. Raises UserError for a
    network whose attention has other matrices, or does not say how many heads there are.
    """

    def check(self, task: Task) -> None:
        """Raises UserError for a network without matrices of heads."""
        heads_of(task.module(), task.dense())

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        mask = trained.mask
        blocks = heads_of(task.module(), mask)
        dead = {path: [h for h in range(block.num) if block.is_dead(mask, h)]
                for path, block in blocks.items()}  # fmt: skip
        num = sum(block.num for block in blocks.values())
        yield "num_heads", num
        yield "dead_heads", sum(map(len, dead.values())) / num
        yield (
            "dead_heads_by_block",
            {path: len(found) / blocks[path].num for path, found in dead.items()},
        )
        if any(dead.values()):
            weights = without(trained.weights, blocks, dead)
            headline = task.objective.measures[0].name
            whole = final_outcomes(task, trained).figures(task.objective)[headline]
            rest = task.evaluate(weights, "test")[headline]
            yield f"test_{headline}_without_dead_heads", rest
            yield "dead_heads_removed_change", rest - whole


@dataclass(frozen=True)
class Heads:
    """The matrices of one block's attention, by kind: each with how many numbers a head has."""

    num: int
    names: Mapping[str, str]
    num_key_values: int

    def part(self, kind: str, head: int, matrix: Tensor) -> Tensor:
        """Takes a head's part of a matrix: rows, of the output columns; heads may share one."""
        num = self.num_key_values if kind in ("key", "value") else self.num
        place = head * num // self.num
        size = matrix.shape[1 if kind == "attention output" else 0] // num
        own = slice(place * size, (place + 1) * size)
        return matrix[:, own] if kind == "attention output" else matrix[own]

    def is_dead(self, mask: Mask, head: int) -> bool:
        """Whether one of its parts that a mask covers has no weight left."""
        return any(
            not self.part(kind, head, mask[name]).any()
            for kind, name in self.names.items() if name in mask
        )  # fmt: skip


def heads_of(module: nn.Module, mask: Mask) -> dict[str, Heads]:
    """Finds the attentions of a network: the path of each -> its heads."""
    config: Any = getattr(module, "config", None)
    num = getattr(config, "num_attention_heads", None)
    found: dict[str, dict[str, str]] = {}
    for name in mask.of_weights():
        kind = kind_of(name)
        if kind in OF_A_HEAD:
            found.setdefault(_attention(name), {})[kind] = name
    whole = {path: names for path, names in found.items() if len(names) == len(OF_A_HEAD)}
    packed = any(is_conv1d(layer) for layer in module.modules())
    asked = {path: num or getattr(module.get_submodule(path), "heads", None) for path in whole}
    counts = {path: one for path, one in asked.items() if isinstance(one, int)}
    if not whole or packed or len(counts) < len(whole):
        raise UserError(
            "probe.dead_heads looks at matrices of queries, keys, values and outputs of a model of "
            "transformers, or of model=vit and the transformers beside it, and this network has "
            "none that a mask covers: leave it out"
        )
    shared = getattr(config, "num_key_value_heads", None)
    return {path: Heads(counts[path], names, shared or counts[path])
            for path, names in whole.items()}  # fmt: skip


def _attention(name: str) -> str:
    """Names the attention that a matrix belongs to: up to the last part that says so."""
    parts = name.split(".")
    last = max((place for place, part in enumerate(parts) if "att" in part.lower()), default=-1)
    return ".".join(parts[: last + 1])


def without(weights: State, blocks: Mapping[str, Heads], dead: Mapping[str, list[int]]) -> State:
    """Sets to zero what some heads send on: their columns of the output's matrix."""
    found = dict(weights)
    for path, heads in dead.items():
        name = blocks[path].names["attention output"]
        found[name] = found[name].clone()
        for head in heads:
            blocks[path].part("attention output", head, found[name]).zero_()
    return found
