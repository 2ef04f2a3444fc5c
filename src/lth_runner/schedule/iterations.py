"""The schedule of a mask that is scored several times and never trained in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from lth_runner.schedule.geometric import Geometric
from lth_runner.values.errors import UserError, nearest

MOST_ITERATIONS = 100_000

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
    """Goes down to ``sparsity`` exactly in ``iterations`` densities along a ``shape``.

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
        if self.iterations > MOST_ITERATIONS:
            raise UserError(
                f"pruner.iterations={self.iterations}: give at most {MOST_ITERATIONS}, each scores "
                "all weights anew"
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
