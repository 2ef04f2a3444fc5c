"""Masks whose number of weights is learned as well."""

from __future__ import annotations

from typing import Any

from lth_runner.allocate import Allocate
from lth_runner.values.errors import UserError


def refuse_avoiding_collapse(allocate: Allocate) -> None:
    """Raises UserError where a budget that is not asked is to leave a weight in every layer."""
    budget: Any = allocate
    if getattr(budget, "avoid_collapse", False):
        raise UserError(
            "pruner.avoid_collapse=true: this pruner keeps what it has learned, as it is, where "
            "pruner.sparsity is null: set pruner.sparsity, or leave pruner.avoid_collapse out"
        )
