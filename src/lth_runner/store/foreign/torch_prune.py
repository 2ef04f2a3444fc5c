"""Checkpoints of torch.nn.utils.prune: every pruned tensor is ``_orig`` times ``_mask``."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lth_runner.search.given_ticket import Tensors
from lth_runner.store.foreign.zero_one import refuse_no_mask
from lth_runner.values.errors import UserError

ORIGINAL, MASK = "_orig", "_mask"


def pruned_names(names: Iterable[str]) -> list[str]:
    """Lists the tensors that are pruned, by the names that they have without pruning."""
    known = set(names)
    found = (name.removesuffix(ORIGINAL) for name in known if name.endswith(ORIGINAL))
    return sorted(name for name in found if f"{name}{MASK}" in known)


def refuse_torn(names: Iterable[str], called: str) -> None:
    """Raises UserError for a mask without its tensor, and for a tensor without its mask.

    A mask of anything else (``causal_mask``) is no part of a checkpoint of pruning, and what
    ``spectral_norm`` calls ``_orig`` has ``_u`` beside it.
    """
    known = set(names)
    pruned = pruned_names(known)
    leaves = {name.rpartition(".")[2] for name in pruned} | {"weight", "bias"}
    for name in sorted(known):
        plain = name.removesuffix(ORIGINAL).removesuffix(MASK)
        bare = name.endswith(ORIGINAL) and f"{plain}_u" not in known
        alone = name.endswith(MASK) and plain.rpartition(".")[2] in leaves and plain not in known
        if plain not in pruned and (bare or alone):
            lacking = f"{plain}{MASK if bare else ORIGINAL}"
            raise UserError(
                f"{called} holds {name} without {lacking}: of what torch.nn.utils.prune has pruned "
                "a checkpoint has both, so that a part of it is lost. Save "
                "module.state_dict() again, or the masks alone in a file"
            )


def masks(tensors: Tensors, called: str) -> Tensors:
    """Reads the masks, which torch keeps as floats; raises UserError for one that is no mask."""
    found = {}
    for name in pruned_names(tensors):
        value = tensors[f"{name}{MASK}"]
        refuse_no_mask(value, f"{name}{MASK}", called)
        found[name] = value.to(torch.bool)
    return found


def weights(tensors: Tensors, called: str) -> Tensors:
    """Reads all tensors under the names that they have without pruning, pruned ones as kept.

    Raises UserError for a pruned one that is there under that name too.
    """
    pruned = set(pruned_names(tensors))
    if twice := sorted(pruned & set(tensors)):
        raise UserError(
            f"{called}: {twice[0]} is there beside {twice[0]}{ORIGINAL}, and which one is meant "
            "cannot be told: leave one out of the file"
        )
    masked = {f"{name}{MASK}" for name in pruned}
    return {
        name.removesuffix(ORIGINAL) if name.removesuffix(ORIGINAL) in pruned else name: tensors[
            name
        ]
        for name in tensors
        if name not in masked
    }
