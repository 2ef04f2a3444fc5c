"""Target densities, one per round of pruning, or per iteration of scoring."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from lth_runner.errors import UserError, nearest


class Schedule(Protocol):
    """The densities after each round of pruning, falling; the dense network is not among them.

    A search that trains between them takes them as rounds, one that only scores as iterations.
    """

    def __call__(self) -> tuple[float, ...]: ...


@dataclass(frozen=True)
class Geometric:
    """``rate`` of what remains goes in each round, down to ``sparsity`` exactly.

    Two of the three suffice: density after round r is (1-rate)^r, and the last round lands on
    1 - sparsity. Rounds that come before the last are the same for every ``sparsity``, so that
    a sweep over it shares them.
    """

    sparsity: float | None = None
    rate: float | None = None
    rounds: int | None = None

    def __post_init__(self) -> None:
        for name, value, share in (
            ("sparsity", self.sparsity, "of weights removed, 0.9 for 90 %"),
            ("rate", self.rate, "of what is left that goes in each round, 0.2 for 20 %"),
        ):
            if value is not None and not 0 < value < 1:
                hint = f"; {value:g} % would be {value / 100:g}" if 1 < value < 100 else ""
                raise UserError(
                    f"pruner.{name}={value} is outside (0, 1): it is the share {share}{hint}"
                )
        whole = isinstance(self.rounds, int) and not isinstance(self.rounds, bool)
        if self.rounds is not None and not (whole and self.rounds >= 1):
            raise UserError(f"pruner.rounds={self.rounds!r}: give a whole number, at least 1")
        if [self.sparsity, self.rate, self.rounds].count(None) > 1:
            raise UserError(
                "set two of pruner.sparsity, pruner.rate and pruner.rounds (the third may be null)"
            )
        if self.sparsity and self.rate and self.rounds:
            reached = 1 - (1 - self.rate) ** self.rounds
            if reached < self.sparsity - 1e-9:
                raise UserError(
                    f"pruner.rounds={self.rounds} at pruner.rate={self.rate} reach sparsity "
                    f"{reached:.4g}, not pruner.sparsity={self.sparsity}: allow "
                    f"{_rounds(self.sparsity, self.rate)} rounds (pruner.rounds=null: as many as "
                    "it takes, beside +scale=smoke too, which sets rounds and rate), or set "
                    "pruner.rate=null to let the rate follow, or pruner.sparsity=null to stop "
                    "where the rounds end"
                )

    def __call__(self) -> tuple[float, ...]:
        if self.sparsity is None:
            return tuple((1 - float(self.rate or 0)) ** r for r in range(1, (self.rounds or 0) + 1))
        if self.rate is None:
            last = self.rounds or 1
            return (
                *((1 - self.sparsity) ** (r / last) for r in range(1, last)),
                1 - self.sparsity,
            )
        num = _rounds(self.sparsity, self.rate)
        return (*((1 - self.rate) ** r for r in range(1, num)), 1 - self.sparsity)


def _rounds(sparsity: float, rate: float) -> int:
    # the tolerance: (1 - rate)^3 computed backwards must count as three rounds, not four
    return max(1, math.ceil(math.log1p(-sparsity) / math.log1p(-rate) - 1e-9))


# progress x in [0, 1], and the density kappa at the end -> the density at x
_SHAPES: Mapping[str, Callable[[float, float], float]] = MappingProxyType(
    {
        "exponential": lambda x, kappa: kappa**x,
        "linear": lambda x, kappa: 1 - x * (1 - kappa),
        "cubic": lambda x, kappa: kappa + (1 - kappa) * (1 - x) ** 3,
    }
)


@dataclass(frozen=True)
class Iterations:
    """``iterations`` densities down to ``sparsity`` exactly; one of them is at once.

    ``shape`` with kappa = 1 - sparsity and x = k / iterations: exponential kappa^x (Tanaka et al.,
    NeurIPS 2020, arXiv 2006.05467), linear 1 - x (1 - kappa), or cubic kappa + (1 - kappa)
    (1 - x)^3 (Zhu & Gupta 2017, arXiv 1710.01878). Where ``sparsity`` is null it is what
    ``rounds`` of ``rate`` would reach; they decide nothing else here.
    """

    sparsity: float | None = None
    iterations: int = 1
    shape: str = "exponential"
    rate: float | None = None
    rounds: int | None = None

    def __post_init__(self) -> None:
        whole = isinstance(self.iterations, int) and not isinstance(self.iterations, bool)
        if not whole or self.iterations < 1:
            raise UserError(
                f"pruner.iterations={self.iterations!r}: give a whole number, at least 1"
            )
        if self.shape not in _SHAPES:
            raise UserError(f"pruner.shape={self.shape!r}; {nearest(str(self.shape), _SHAPES)}")
        self._end()  # refuses a target that is none

    def _end(self) -> float:
        if self.sparsity is None or self.rate is not None:
            return Geometric(self.sparsity, self.rate, self.rounds)()[-1]
        if self.rounds not in (None, 1):
            raise UserError(
                f"pruner.rounds={self.rounds} has no use beside pruner.sparsity={self.sparsity}: "
                "this pruner trains once after pruning; pruner.iterations is what it repeats"
            )
        return Geometric(self.sparsity, rounds=1)()[-1]

    def __call__(self) -> tuple[float, ...]:
        end, shape, num = self._end(), _SHAPES[self.shape], self.iterations
        return (*(shape(k / num, end) for k in range(1, num)), end)
