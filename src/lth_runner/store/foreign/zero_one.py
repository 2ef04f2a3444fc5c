"""Masks as tensors of 0 and 1: bool, whole numbers or floats, named after what they mask."""

from __future__ import annotations

import torch
from torch import Tensor

from lth_runner.search.given_ticket import Tensors
from lth_runner.values.errors import UserError

PREFIX, SUFFIX = "mask.", "_mask"


def are_masks(tensors: Tensors) -> bool:
    """Whether every tensor holds 0 and 1 alone; one is in memory at a time."""
    return bool(tensors) and all(_is_mask(tensors[name]) for name in tensors)


def masked_name(name: str) -> str:
    """Finds the name of the tensor that a mask is for."""
    return name.removeprefix(PREFIX).removesuffix(SUFFIX)


def masks(tensors: Tensors) -> Tensors:
    """Reads the masks as bool, by the names of what they mask.

    Raises UserError for two of one name that differ.
    """
    found: dict[str, Tensor] = {}
    whose: dict[str, str] = {}
    for name in tensors:
        masked, mask = masked_name(name), tensors[name].to(torch.bool)
        first = whose.setdefault(masked, name)
        if first != name and not torch.equal(found[masked], mask):
            raise UserError(
                f"{first} and {name} are both masks of {masked}, and differ: leave one out of the "
                "file"
            )
        found[masked] = mask
    return found


def _is_mask(value: Tensor) -> bool:
    if value.dtype == torch.bool:
        return True
    return not value.is_complex() and bool(((value == 0) | (value == 1)).all())
