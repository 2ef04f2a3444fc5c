"""What a training asks of other processes, where each of them holds a part of its network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lth_runner.values.state import State


@dataclass(frozen=True)
class Elsewhere:
    """Has other processes join in where a network is read of which each holds a part.

    ``weights`` and ``moments`` call what reads those here; ``are_finite`` says whether all
    processes' weights are, told whether this one's are.
    """

    weights: Callable[[Callable[[], State]], State]
    moments: Callable[[Callable[[], State]], State]
    are_finite: Callable[[bool], bool]
