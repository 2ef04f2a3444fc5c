"""The seam for target densities."""

from __future__ import annotations

from typing import Protocol


class Schedule(Protocol):
    """The densities after each round of pruning, falling; the dense network is not among them.

    A search that trains between them takes them as rounds, one that only scores as iterations.
    """

    def __call__(self) -> tuple[float, ...]: ...
