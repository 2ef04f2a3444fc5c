"""Checkpoints of torch.nn.utils.prune: every pruned tensor is ``_orig`` times ``_mask``."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lth_runner.search.given_ticket import Tensors
from lth_runner.values.errors import UserError

ORIGINAL, MASK = "_orig", "_mask"


def pruned_names(names: Iterable[str]) -> list[str]:
    """Lists the tensors that are pruned, by the names that they have without pruning."""
    known = set(names)
    found = (name.removesuffix(ORIGINAL) for name in known if name.endswith(ORIGINAL))
    return sorted(name for name in found if f"{name}{MASK}" in known)


def masks(tensors: Tensors) -> Tensors:
    """Reads the masks, which torch keeps as floats; raises UserError for one that is no mask."""
    found = {}
    for name in pruned_names(tensors):
        value = tensors[f"{name}{MASK}"]
        if not bool(((value == 0) | (value == 1)).all()):
            raise UserError(f"{name}{MASK} holds other values than 0 and 1")
        found[name] = value.to(torch.bool)
    return found


def weights(tensors: Tensors) -> Tensors:
    """Reads all tensors under the names that they have without pruning, pruned ones as kept.

    Raises UserError for a pruned one that is there under that name too.
    """
    pruned = set(pruned_names(tensors))
    if twice := sorted(pruned & set(tensors)):
        raise UserError(
            f"{twice[0]} is there beside {twice[0]}{ORIGINAL}, and which one is meant cannot be "
            "told: leave one out of the file"
        )
    masked = {f"{name}{MASK}" for name in pruned}
    return {
        name.removesuffix(ORIGINAL) if name.removesuffix(ORIGINAL) in pruned else name: tensors[
            name
        ]
        for name in tensors
        if name not in masked
    }
