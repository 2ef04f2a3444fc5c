"""Networks that a trained flow has generated, to start from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import nn

from lth_runner.problem.data import SampledData, Subset
from lth_runner.problem.laying import Laying
from lth_runner.problem.task import Task
from lth_runner.runs.one_run import trained_path
from lth_runner.runs.origin import FromRun
from lth_runner.runs.rebuilt import rebuilt
from lth_runner.store.store import Entry
from lth_runner.study.flow.pairs import Pairs
from lth_runner.study.flow.sampling import BLOCK, Sampler
from lth_runner.study.flow.space import Space
from lth_runner.values import identity
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.name_patterns import as_names
from lth_runner.values.state import State

KEY = "origin.run"


def pairs_in(task: Task) -> Pairs | None:
    """Finds the samples of flow matching that a task learns from; None of another task."""
    samples = task.data.train if isinstance(task.data, SampledData) else None
    while isinstance(samples, Subset):
        samples = samples.samples
    return samples if isinstance(samples, Pairs) else None


class Keeps(Protocol):
    """A training beside which tensors are kept."""

    def derived(self, name: str, compute: Callable[[], State]) -> State:
        """Reads what was computed of it, computed where it is not there."""


def generated_points(
    task: Task,
    pairs: Pairs,
    weights: State,
    sampler: Sampler,
    kept: Keeps,
    which: Sequence[int],
    condition: int | None,
) -> torch.Tensor:
    """Computes generated points by their numbers, [numbers, coordinates].

    They come in blocks, which are kept beside the flow's training: whoever asks for a number gets
    the same one.
    """
    found = []
    for block in sorted({number // BLOCK for number in which}):
        made_of = [identity.describe(sampler), block, condition]
        std = pairs.drawing.source_std

        def draw(block: int = block, std: float = std) -> State:
            return {"points": sampler.block(task, weights, block, std, condition)}

        drawn = kept.derived(f"generated-{identity.digest(made_of, 16)}", draw)
        found.append(drawn["points"][[n % BLOCK for n in which if n // BLOCK == block]])
    return torch.cat(found)


@dataclass(frozen=True)
class Generated:
    """Starts from a network that a flow has generated, the ``index``-th of its seed.

    ``run`` is the folder of a finished run of ``dataset=weight_flow``, ``seed`` the replicate's,
    its first without one; ``condition`` says of a conditional flow which run's kind is drawn.
    Running statistics are measured on the training samples of that run. ``fresh``: patterns of
    tensors that are drawn anew. What tells one start from another is the network itself. Raises
    UserError for a run that is none of a flow, and for a condition or an index out of range.
    """

    run: str = field(compare=False)
    index: int = field(default=0, compare=False)
    condition: int | None = field(default=None, compare=False)
    seed: int | None = field(default=None, compare=False)
    fresh: Sequence[str] = ()
    sampler: Sampler = field(default_factory=Sampler, compare=False)
    content: str = field(init=False, default="")  # SHA-256 of the weights

    def __post_init__(self) -> None:
        object.__setattr__(self, "fresh", as_names(self.fresh))
        check_index(self.index)
        object.__setattr__(self, "content", states.fingerprint(self.state))

    @cached_property
    def state(self) -> State:
        """The network."""
        chosen = FromRun(self.run, 0, self.seed, key=KEY)
        task = rebuilt(chosen.folder).with_seed(chosen.row["seed"])
        pairs = pairs_in(task)
        if pairs is None:
            raise UserError(
                f"{KEY}={self.run} has trained no flow: name a run of dataset=weight_flow, or take "
                "origin=run for what it has trained"
            )
        check_condition(self.condition, pairs.num_conditions)
        entry = Entry(trained_path(chosen.folder, chosen.row).parent, {})
        points = generated_points(
            task, pairs, chosen.weights, self.sampler, entry, [self.index], self.condition
        )
        return next(networks_of(pairs.space, points, self.condition))

    def lay(self, module: nn.Module) -> None:
        """Writes the generated weights into a network."""
        laid = iter(self.state.items())
        Laying(f"{KEY}={self.run}", self.fresh, ()).lay(module, laid)


def networks_of(space: Space, points: torch.Tensor, condition: int | None) -> Iterator[State]:
    """Makes networks of points."""
    return space.networks(space.weights(points), condition or 0)


def check_index(index: object) -> None:
    """Raises UserError for what is no number of a generated network."""
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        raise UserError(f"origin.index={index!r}: give a whole number from 0")


def check_condition(condition: int | None, num: int) -> None:
    """Raises UserError for a condition that a flow was not told, and where it needs one."""
    if num == 0 and condition is not None:
        raise UserError(
            f"origin.condition={condition}: this flow was told no conditions "
            "(dataset.num_conditions=0): leave it at null"
        )
    whole = isinstance(condition, int) and not isinstance(condition, bool)
    if num and not (whole and condition is not None and 0 <= condition < num):
        raise UserError(
            f"origin.condition={condition}: this flow was told {num} conditions: give one from 0 "
            f"to {num - 1}"
        )
