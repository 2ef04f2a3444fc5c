"""How much worse than the dense network a ticket may be and still match it."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from lth_runner.values.errors import UserError
from lth_runner.values.measure import Measure

DEFAULT_SHARE = 0.005  # half a point, of what is told in %
DEFAULT_RELATIVE = 0.02  # of the dense network's value, of any other measure


@dataclass(frozen=True)
class Tolerance:
    """An amount in units of the headline measure, or a share of the dense network's value."""

    amount: float
    relative: bool = False

    @classmethod
    def parse(cls, value: Any, measure: Measure, where: str = "") -> Tolerance:
        """Reads `report.tolerance`; None is half a point of what is told in %, else 2 %.

        Raises `UserError` for what is neither, or more than the measure allows; `where` names the
        file that says it.
        """
        is_share = measure.unit == "%"
        if value is None:
            return cls(DEFAULT_SHARE) if is_share else cls(DEFAULT_RELATIVE, relative=True)
        text = value if isinstance(value, str) else ""
        share = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*%\s*", text)
        if share is not None and float(share[1]) < 100:
            return cls(float(share[1]) / 100, relative=True)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and 0 <= value < (1 if is_share else math.inf):
            return cls(float(value))
        range = "from 0 to below 1, 0.005 for half a point" if is_share else "of at least 0"
        raise UserError(
            f"report.tolerance={value!r}{where and f' in {where}'} must be a difference of the "
            f"headline measure, {measure.name}, {range}; or a share of the dense network's value, "
            "such as 2%"
        )

    def of(self, dense: float | None) -> float:
        """Computes the amount beside a dense network's value; of an unknown one no share."""
        return abs(dense or 0.0) * self.amount if self.relative else self.amount
