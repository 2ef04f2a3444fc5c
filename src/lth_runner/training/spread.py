"""The seam for a network that lies on several processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor, nn

from lth_runner.values.state import State


class Spread(Protocol):
    """Lays a network out over several processes, of which the first alone has what it begins by."""

    def lay(self, model: nn.Module, weights: State) -> None:
        """Gives the network its weights, and each process its part of it."""

    def sent(self, state: State) -> Iterable[tuple[str, Tensor]]:
        """Goes through the first one's state; the others know names, types and shapes of it."""
