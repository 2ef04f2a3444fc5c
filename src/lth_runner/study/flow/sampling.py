"""New points of a space: noise that follows a velocity from time 0 to 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from lth_runner.problem.task import Task
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.seeds import stream
from lth_runner.values.state import State

BLOCK = 100  # points that move at once: a point's last bits go by how many these are
MOST = 100_000  # steps
MOST_STD = 1e6
Velocity = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True)
class RungeKutta:
    """A rule of a step h: x + h sum of b_i k_i, with k_i = v(x + h a_i k_(i-1), t + h a_i)."""

    at: tuple[float, ...]
    weights: tuple[float, ...]

    def step(self, velocity: Velocity, points: Tensor, time: float, size: float) -> Tensor:
        """Moves points by one step of a ``size``."""
        moved, last = points, torch.zeros_like(points)
        for at, weight in zip(self.at, self.weights, strict=True):
            last = velocity(points + size * at * last, time + size * at)
            moved = moved + size * weight * last
        return moved


SOLVERS: Mapping[str, RungeKutta] = MappingProxyType({
    "euler": RungeKutta((0.0,), (1.0,)),
    "midpoint": RungeKutta((0.0, 0.5), (0.0, 1.0)),
    "rk4": RungeKutta((0.0, 0.5, 0.5, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
})  # fmt: skip


@dataclass(frozen=True)
class Sampler:
    """Draws noise by ``seed`` and follows the flow for ``num_steps`` equal steps.

    ``source_std``: of the noise, None for that which the flow was trained with. Raises UserError
    for a solver that is not known and for too few steps.
    """

    num_steps: int = 100
    solver: Literal["euler", "midpoint", "rk4"] = "rk4"
    source_std: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        num, std = self.num_steps, self.source_std
        if self.solver not in SOLVERS:
            raise UserError(f"sampler.solver={self.solver!r}: {nearest(str(self.solver), SOLVERS)}")
        if isinstance(num, bool) or not isinstance(num, int) or not 1 <= num <= MOST:
            raise UserError(f"sampler.num_steps={num!r}: give a whole number from 1 to {MOST}")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise UserError(f"sampler.seed={self.seed!r}: give a whole number from 0")
        plain = isinstance(std, (int, float)) and not isinstance(std, bool)
        if std is not None and not (plain and 0 < std < MOST_STD):
            raise UserError(f"sampler.source_std={std!r}: give a deviation above 0, or null")

    @torch.no_grad()
    def block(
        self, task: Task, weights: State, number: int, source_std: float, condition: int | None
    ) -> Tensor:
        """Draws the ``number``-th hundred points, [100, coordinates], by a trained flow.

        It depends on the seed, the number and the condition alone, not on how many blocks are asked
        for.
        """
        inputs, _ = task.data.sample(1, 0)
        assert isinstance(inputs, Mapping)
        size = inputs["points"].shape[1]
        drawn = stream(self.seed, "generate", number, -1 if condition is None else condition)
        std = self.source_std or source_std
        points = std * torch.randn(BLOCK, size, generator=drawn)
        placed = task.placed(weights)
        told = {} if condition is None else {"conditions": torch.full((BLOCK,), condition)}

        def velocity(at: Tensor, time: float) -> Tensor:
            given = {"points": at, "times": torch.full((len(at), 1), time), **told}
            on_device = {name: value.to(task.device) for name, value in given.items()}
            return task.outputs(placed, on_device).cpu()

        rule = SOLVERS[self.solver]
        for step in range(self.num_steps):
            points = rule.step(velocity, points, step / self.num_steps, 1 / self.num_steps)
        return points
