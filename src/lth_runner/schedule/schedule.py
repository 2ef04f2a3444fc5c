"""The seam for schedules of target densities."""

from __future__ import annotations

from typing import Protocol


class Schedule(Protocol):
    """Gives the falling densities after each round of pruning, without that of the dense network.

    A search that trains between them takes them as rounds, one that only scores as iterations.
    """

    def __call__(self) -> tuple[float, ...]: ...
