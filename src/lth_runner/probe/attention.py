"""Probes of transformers: densities by kind of matrix, and heads that a mask has emptied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lth_runner.probe.heads import OUTPUT, Heads, heads_of, kind_of
from lth_runner.probe.probe import Value
from lth_runner.problem.task import Task
from lth_runner.search.final_outcomes import final_outcomes
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.state import State


@dataclass(frozen=True)
class MatrixDensity:
    """Measures ``density_by_matrix``: the share of kept weights of each kind of matrix.

    Kinds are query, key, value, attention output, intermediate and output, over all blocks; one
    matrix of the first three is a kind of its own, ``query, key and value``. Matrices of other
    names stand under their layer's. By block they are in ``layer_density``.
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
    no kept weight: its outputs, and of the output its inputs. ``dead_heads`` is their share among
    all, ``num_heads``, with ``dead_heads_by_block``; and where there are some,
    ``test_<headline>_without_dead_heads`` is the headline measure with their part of the output's
    matrix and nothing else set to zero, which takes out what their biases add. Raises UserError
    for a network whose attention has other matrices, or does not say how many heads there are.
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


def without(weights: State, blocks: Mapping[str, Heads], dead: Mapping[str, list[int]]) -> State:
    """Sets to zero what some heads send on: their columns of the output's matrix."""
    found = dict(weights)
    for path, heads in dead.items():
        parts = [blocks[path].parts[head][OUTPUT] for head in heads]
        for name in {part.name for part in parts}:
            found[name] = found[name].clone()
        for part in parts:
            part.of(found[part.name]).zero_()
    return found
