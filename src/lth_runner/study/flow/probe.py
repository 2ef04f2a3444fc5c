"""The probe of what a flow generates, beside what is made of the same networks without one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lth_runner.probe.probe import Value
from lth_runner.probe.reference import check_count
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Trained
from lth_runner.study.flow.awaited import AwaitedPairs
from lth_runner.study.flow.generated import generated_points, pairs_in
from lth_runner.study.flow.measuring import Distances, Measured, distances, measure, same_errors
from lth_runner.study.flow.pairs import Pairs
from lth_runner.study.flow.sampling import Sampler
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream

MOST = 10_000
TRAINED, FLOW = "training", "flow"


@dataclass(frozen=True)
class GeneratedNetworks:
    """Measures networks that the flow generates, ``num`` of each condition, and beside them others.

    By the name of what they are: ``training`` the networks themselves, ``reduced`` the same
    through the coordinates and back, ``flow``, ``pairs`` the middle between two drawn at random,
    ``mean`` of all, ``gaussian`` of each weight by itself with their mean and spread; a
    condition's name stands before, where there are some. ``generated_<measure>`` is the mean
    headline on test, ``generated_spread`` its standard deviation over the networks,
    ``generated_ensemble`` that of all together; ``generated_nearest`` the mean L2 distance to the
    nearest training network (of these to another), ``generated_neighbours`` how many of these are
    a nearest one, ``generated_pairwise`` the mean distance of every two,
    ``generated_same_errors`` how alike the errors are to those of the training network that is
    most alike (1 for a copy). ``generated_explained``: the share of the squared distances that
    the coordinates hold. ``generated_curve`` and ``generated_nearest_curve``: of each generated
    network. Running statistics are measured on training samples alone.
    Of the dense flow alone. Raises UserError where no flow is trained.
    """

    num: int = 100
    sampler: Sampler = field(default_factory=Sampler)

    def __post_init__(self) -> None:
        check_count("generated.num", self.num)
        if not 2 <= self.num <= MOST:
            raise UserError(f"probe.generated.num={self.num}: give 2 to {MOST} networks")

    def check(self, task: Task) -> None:
        """Raises UserError for a task that is no flow."""
        data = getattr(task.data, "train", None)
        if pairs_in(task) is None and not isinstance(data, AwaitedPairs):
            raise UserError(
                "probe=generated looks at what a flow generates: choose dataset=weight_flow and "
                "model=velocity, or leave it out"
            )

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        pairs = pairs_in(task)
        if past or pairs is None:
            return
        yield "generated_explained", 1.0 if (of := pairs.space.principal) is None else of.explained
        found: dict[str, dict[str, float]] = {}
        for condition in range(pairs.num_conditions) if pairs.num_conditions else (None,):
            problem = pairs.space.population.tasks[condition or 0]
            name = f"generated_{problem.objective.measures[0].name}"
            called = "" if condition is None else f"{problem.data.name} {condition}: "
            own = _own(pairs, condition)
            sets = dict(self._sets(task, pairs, trained, condition, own))
            networks = pairs.space.networks
            base = measure(problem, networks(own, condition or 0))
            for kind, rows in sets.items():
                is_own = kind == TRAINED
                given = base if is_own else measure(problem, networks(rows, condition or 0))
                apart = distances(rows, own, themselves=is_own)
                for key, value in _figures(name, given, apart, base, is_own=is_own).items():
                    found.setdefault(key, {})[called + kind] = value
                if kind == FLOW:
                    suffix = "" if condition is None else f"_{condition}"
                    yield f"generated_curve{suffix}", list(given.values)
                    yield f"generated_nearest_curve{suffix}", list(apart.nearest)
        yield from found.items()

    def _sets(
        self, task: Task, pairs: Pairs, trained: Trained, condition: int | None, own: Tensor
    ) -> Iterator[tuple[str, Tensor]]:
        """Makes the rows of weights of each kind."""
        space = pairs.space
        yield TRAINED, own
        if space.principal is not None:
            yield "reduced", space.weights(space.principal.reduced(own))
        yield FLOW, space.weights(self._points(task, pairs, trained, condition))
        yield from baselines(own, self.num, self.sampler.seed)

    def _points(self, task: Task, pairs: Pairs, trained: Trained, condition: int | None) -> Tensor:
        weights = trained.weights
        return generated_points(
            task, pairs, weights, self.sampler, trained, range(self.num), condition
        )


def _own(pairs: Pairs, condition: int | None) -> Tensor:
    rows = pairs.space.rows
    return rows if condition is None else rows[pairs.conditions == condition]


def baselines(own: Tensor, num: int, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Makes networks of others without a flow: the middle of pairs, the mean, a Gaussian."""
    drawn = stream(seed, "baselines")
    if len(own) > 1:
        first = torch.randint(len(own), (num,), generator=drawn)
        other = (first + torch.randint(1, len(own), (num,), generator=drawn)) % len(own)
        yield "pairs", (own[first] + own[other]) / 2
    yield "mean", own.mean(0, keepdim=True)
    if len(own) > 1:
        noise = torch.randn(num, own.shape[1], generator=drawn)
        yield "gaussian", own.mean(0) + own.std(0) * noise


def _figures(
    name: str, given: Measured, apart: Distances, base: Measured, *, is_own: bool
) -> Mapping[str, float]:
    found = {
        name: given.mean,
        "generated_spread": given.spread,
        "generated_ensemble": given.ensemble,
        "generated_nearest": sum(apart.nearest) / len(apart.nearest),
        "generated_neighbours": float(apart.num_neighbours),
        "generated_pairwise": apart.pairwise,
    }
    if given.wrong is not None and base.wrong is not None:
        found["generated_same_errors"] = same_errors(given.wrong, base.wrong, themselves=is_own)
    return found
