"""What a training's evaluations have found so far, and what the next one is to look at."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

Row = dict[str, Any]


class History:
    """The rows of a training's evaluations in their order; what is no number is None in them."""

    def __init__(self, rows: Iterable[Row] = ()) -> None:
        self._rows = list(rows)

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, the first one first."""
        return tuple(self._rows)

    def add(self, row: Mapping[str, Any], *, are_weights_finite: bool) -> Row:
        """Adds a row, without a training loss where a weight is not finite; returns it."""
        kept = {k: v if math.isfinite(v) else None for k, v in row.items()}
        if not are_weights_finite:
            kept["train_loss"] = None
        self._rows.append(kept)
        return kept

    def is_lowest(self, val_loss: float) -> bool:
        """Whether a validation loss is below all before it; what is no number is below none."""
        known = (row.get("val_loss") for row in self._rows)
        return val_loss < min((loss for loss in known if loss is not None), default=math.inf)

    @property
    def diverged(self) -> bool:
        """Whether the loss or a weight was NaN or infinite when last looked at."""
        last = self._rows[-1] if self._rows else {}
        return any(last.get(name, 0.0) is None for name in ("train_loss", "val_loss", "test_loss"))
