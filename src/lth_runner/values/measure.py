"""A figure by which networks are compared: which way is better, and how people write it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Measure:
    """One figure of a network on a split: which way is better, and how it is shown.

    It is shown as value * ``scale`` and ``unit``: an accuracy of .9796 with scale 100 and unit %
    is 97.96 %. ``chance`` is what a network that has learned nothing reaches; None where nobody
    can say.
    """

    name: str
    better: Literal["higher", "lower"] = "higher"
    unit: str = ""
    scale: float = 1.0
    chance: float | None = None

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any]) -> Measure:
        """Returns the measure that ``facts`` lists; facts of a later version are left out."""
        known = ("name", "better", "unit", "scale", "chance")
        return cls(**{name: facts[name] for name in known if name in facts})

    def facts(self) -> dict[str, Any]:
        """Lists the fields as JSON has them."""
        return asdict(self)

    def gain(self, value: float, over: float) -> float:
        """Returns by how much ``value`` is better than ``over``, negative where it is worse."""
        return value - over if self.better == "higher" else over - value

    def error(self, value: float) -> float:
        """Turns the value into one that is better when lower: itself, or 1 - value."""
        return value if self.better == "lower" else 1 - value

    def number(self, value: float) -> str:
        """Writes the value without its unit: 97.96, 12.3, .48."""
        scaled = value * self.scale
        if self.unit == "%":
            return f"{scaled:.2f}"
        if abs(scaled) >= 99.95:  # which three digits write as 100, too
            return f"{scaled:.0f}"
        if abs(scaled) >= 1:
            return f"{scaled:#.3g}"
        return f"{scaled:.2g}".replace("0.", ".", 1)

    def text(self, value: float) -> str:
        """Writes the value with its unit: 97.96 %, 12.3, .48."""
        return f"{self.number(value)} {self.unit}".rstrip()


ACCURACY = Measure("accuracy", unit="%", scale=100)
LOSS = Measure("loss", "lower", "nats")
