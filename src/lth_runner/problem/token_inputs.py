"""Which of a batch's inputs are token numbers: a tensor, or the one that libraries call so."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from lth_runner.values.tree import Tree

TOKENS, MASK = "input_ids", "attention_mask"  # what inputs by name call them


def token_numbers(inputs: Tree) -> Tensor | None:
    """Finds the token numbers, int64 [samples, length] on the CPU; None where inputs are others."""
    found = inputs.get(TOKENS) if isinstance(inputs, Mapping) else inputs
    if not isinstance(found, Tensor) or found.ndim != 2 or found.is_floating_point():
        return None
    return found.cpu().long()
