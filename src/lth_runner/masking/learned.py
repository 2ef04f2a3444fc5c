"""What maskings share that learn how many weights stay."""

from __future__ import annotations

from typing import Any

from lth_runner.allocate import Allocate
from lth_runner.values.errors import UserError


def refuse_avoiding_collapse(allocate: Allocate) -> None:
    """Raises UserError where ``avoid_collapse`` is set on a budget that is never asked."""
    budget: Any = allocate
    if getattr(budget, "avoid_collapse", False):
        raise UserError(
            "pruner.avoid_collapse=true: this pruner keeps what it has learned, as it is, where "
            "pruner.sparsity is null: set pruner.sparsity, or leave pruner.avoid_collapse out"
        )
