"""Flow matching as a regression: points between noise and networks, and where they are to move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from lth_runner.problem.data.sampled import SampledData
from lth_runner.study.flow.population import Population
from lth_runner.study.flow.space import Space
from lth_runner.study.permutation import Matching
from lth_runner.values import identity
from lth_runner.values.errors import UserError
from lth_runner.values.tree import Batch

TRAINED, TESTED = 64, 16  # samples of a network in an epoch, and in the test split


@dataclass(frozen=True)
class Drawing:
    """How samples of flow matching are drawn: x_t = (1 - t) x_0 + t x_1 + noise_std eps.

    x_0 ~ N(0, source_std^2), t ~ U(0, 1), eps ~ N(0, 1); x_1 is a network, the target x_1 - x_0.
    Lipman et al., ICLR 2023, arXiv 2210.02747. Raises UserError for spreads out of range.
    """

    source_std: float
    noise_std: float

    def __post_init__(self) -> None:
        for key, least in (("source_std", True), ("noise_std", False)):
            value = getattr(self, key)
            plain = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not plain or not math.isfinite(value) or value < 0 or (least and value == 0):
                above = "above" if least else "from"
                raise UserError(f"dataset.{key}={value!r}: give a standard deviation {above} 0")

    def __call__(self, ends: Tensor, draw: Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Draws points between noise and ``ends``, [samples, coordinates], and their targets."""
        starts = self.source_std * torch.randn(ends.shape, generator=draw)
        times = torch.rand(len(ends), 1, generator=draw)
        noise = self.noise_std * torch.randn(ends.shape, generator=draw)
        return {"points": torch.lerp(starts, ends, times) + noise, "times": times}, ends - starts


@dataclass(frozen=True, eq=False)
class Pairs:
    """Samples of flow matching between noise and the networks of a space, drawn by the step.

    ``draws`` of each network, with a time and a noise of their own, are an epoch.
    """

    space: Space
    drawing: Drawing
    num_conditions: int
    draws: int

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the networks and of how they are drawn."""
        own = [self.space.fingerprint, identity.describe(self.drawing)]
        return identity.digest([*own, self.num_conditions, self.draws])

    def __len__(self) -> int:
        return len(self.space.population.members) * self.draws

    def take(self, index: Tensor, draw: Generator) -> Batch:
        """Makes samples, of which each is of the network of its number."""
        chosen = index % len(self.space.population.members)
        inputs, targets = self.drawing(self.space.points[chosen], draw)
        if self.num_conditions:
            inputs["conditions"] = self.conditions[chosen]
        return inputs, targets

    @cached_property
    def conditions(self) -> Tensor:
        """Which of the runs each network is of."""
        return torch.tensor([one.condition for one in self.space.population.members])


def weight_flow(
    *,
    run: str | Sequence[str],
    round: int = 0,
    arm: str = "ticket",
    num: int | None = None,
    canonicalize: bool = True,
    matching: Matching | None = None,
    components: int | None = 99,
    source_std: float = 0.01,
    noise_std: float = 0.001,
    num_conditions: int = 0,
    shape: Sequence[int] = (),
    num_classes: None = None,
    name: str = "weight_flow",
) -> SampledData:
    """Makes the data of a flow from noise to the networks of one run or of several.

    ``round`` and ``arm`` say which trainings, ``num`` how many of each run at most.
    ``canonicalize`` puts their units in one order first, ``components`` reduces them.
    ``num_conditions``: 0, or the number of runs, where each network is told which it is of.
    ``shape`` is that of a point, and is checked. The test split has the same networks with draws of
    its own. Raises UserError for what does not fit together.
    """
    drawing = Drawing(source_std, noise_std)
    runs = listed_runs(run, num_conditions)
    population = Population.of_runs(runs, round=round, arm=arm, num=num)
    by = Matching() if matching is None else matching
    space = Space(population, by if canonicalize else None, components)
    check_shape(shape, components or space.layout.size)
    train, test = (Pairs(space, drawing, num_conditions, draws) for draws in (TRAINED, TESTED))
    return SampledData(train=train, val=None, test=test, num_classes=num_classes, name=name)


def listed_runs(run: str | Sequence[str], num_conditions: int) -> list[str]:
    """Lists the runs; raises UserError for conditions that are not as many."""
    runs = [run] if isinstance(run, str) else list(run)
    if not runs or len(set(runs)) < len(runs):
        raise UserError(f"dataset.run={runs}: name at least one run, and each once")
    if isinstance(num_conditions, bool) or num_conditions not in (0, len(runs)):
        raise UserError(
            f"dataset.num_conditions={num_conditions}: dataset.run names {len(runs)} of them; set "
            f"it to {len(runs)}, or to 0 where the flow is not told which run a network is of"
        )
    return runs


def check_shape(shape: Sequence[int], size: int) -> None:
    """Raises UserError for a shape that is not that of a point."""
    if list(shape) != [size]:
        raise UserError(
            f"dataset.shape={list(shape)}, but a network is {size} numbers here: set "
            f"dataset.shape=[{size}]"
        )
