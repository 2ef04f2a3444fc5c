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


def is_named_as_mask(name: str) -> bool:
    """Whether a tensor's own name says that it is a mask."""
    return masked_name(name) != name


def refuse_soft(tensors: Tensors, called: str) -> None:
    """Raises UserError for masks of other values than 0 and 1, told by their names or values.

    Matrices of weights have negative values: what lies between 0 and 1 throughout is a soft mask,
    and whole numbers are no weights.
    """
    named = bool(tensors) and all(map(is_named_as_mask, tensors))
    shaped = [name for name in tensors if named or tensors[name].ndim > 1]
    if named or (shaped and all(_is_no_weight(tensors[name]) for name in shaped)):
        for name in shaped:
            refuse_no_mask(tensors[name], name, called)


def refuse_no_mask(value: Tensor, name: str, called: str) -> None:
    """Raises UserError for a tensor of other values than 0 and 1, saying one of them."""
    if _is_mask(value):
        return
    other = value[(value != 0) & (value != 1)] if not value.is_complex() else value
    raise UserError(
        f"{called}: {name} holds {other.reshape(-1)[0].item():.4g}, where a mask holds 0 and 1: of "
        "a soft one keep what lies above a threshold, as in (mask > 0.5)"
    )


def masks(tensors: Tensors, called: str) -> Tensors:
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
                f"{called}: {first} and {name} are both masks of {masked}, and differ: leave one "
                "out of the file"
            )
        found[masked] = mask
    return found


def _is_mask(value: Tensor) -> bool:
    if value.dtype == torch.bool:
        return True
    return not value.is_complex() and bool(((value == 0) | (value == 1)).all())


def _is_no_weight(value: Tensor) -> bool:
    return not value.is_floating_point() or bool(((value >= 0) & (value <= 1)).all())
