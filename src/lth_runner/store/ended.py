"""What a training ended with, in its file: the mask and the weights."""

from __future__ import annotations

from pathlib import Path

from lth_runner.values import state as states
from lth_runner.values.errors import Damaged
from lth_runner.values.mask import Mask
from lth_runner.values.state import State

MASK, WEIGHTS = "mask.", "weights."  # how the names of tensors begin


def packed_end(mask: Mask, weights: State) -> State:
    """Lays out both as the tensors of one file."""
    bits = {f"{MASK}{name}": value for name, value in mask.packed().items()}
    return bits | {f"{WEIGHTS}{name}": value for name, value in weights.items()}


def read_end(path: Path) -> tuple[Mask, State]:
    """Reads both from a file of the Store.

    Raises Damaged for one that is not what was written, FileNotFoundError where there is none.
    """
    tensors, _ = states.load(path)
    weights, packed = under(tensors, WEIGHTS), under(tensors, MASK)
    if strange := sorted(packed.keys() - weights.keys()):
        raise Damaged(f"{path}: the mask of {strange[0]} fits no tensor")
    return Mask.unpacked(packed, {name: weights[name].shape for name in packed}), weights


def under(tensors: State, prefix: str) -> State:
    """Picks the tensors whose names begin so, by the rest of their names."""
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}
