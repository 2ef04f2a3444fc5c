"""A tensor, or tensors by name: what a network is given, and what its answers are held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Tree = Tensor | Mapping[str, Tensor]  # the first axis counts samples
Batch = tuple[Tree, Tree]  # what a network is given, and what its answer is held against


def each(change: Callable[[Tensor], Tensor], tree: Tree) -> Tree:
    """Returns the tree with every tensor changed."""
    if isinstance(tree, Tensor):
        return change(tree)
    return {name: change(value) for name, value in tree.items()}


def tensors(tree: Tree) -> list[Tensor]:
    """Lists the tensors, by the order of their names."""
    return [tree] if isinstance(tree, Tensor) else [tree[name] for name in sorted(tree)]


def length(tree: Tree) -> int:
    """Counts the samples."""
    return len(tensors(tree)[0])


def rows(tree: Tree, index: Tensor) -> Tree:
    """Picks the samples of these numbers, each tensor where it lies."""
    return each(lambda value: value.index_select(0, index.to(value.device)), tree)


def split(tree: Tree, size: int) -> list[Tree]:
    """Cuts a tree into views of ``size`` samples, the last one short."""
    if not length(tree):
        return []
    if isinstance(tree, Tensor):
        return list(tree.split(size))
    pieces = {name: value.split(size) for name, value in tree.items()}
    return [dict(zip(pieces, parts, strict=True)) for parts in zip(*pieces.values(), strict=True)]


def cat(trees: Sequence[Tree]) -> Tree:
    """Puts the samples of several trees one after the other."""
    first = trees[0]
    if isinstance(first, Tensor):
        return torch.cat([tree for tree in trees if isinstance(tree, Tensor)])
    named = [tree for tree in trees if isinstance(tree, Mapping)]
    return {name: torch.cat([tree[name] for tree in named]) for name in first}


def describe(tree: Tree) -> str:
    """Says types and shapes of one sample, for messages."""
    if isinstance(tree, Tensor):
        return f"{str(tree.dtype).removeprefix('torch.')} of shape {tuple(tree.shape[1:])}"
    return ", ".join(f"{name}: {describe(value)}" for name, value in tree.items())
