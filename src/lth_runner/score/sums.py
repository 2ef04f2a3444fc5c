"""What scores add up over batches, by one process or by several that take parts each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from lth_runner.problem.sharing import Part, Terms, added_up
from lth_runner.problem.task import Task
from lth_runner.score import derivatives
from lth_runner.values import tree
from lth_runner.values.ranks import Rank
from lth_runner.values.state import State
from lth_runner.values.tree import Batch


class Means(Terms, Protocol):
    """Terms that are means over the samples of a batch, one of each batch."""

    def is_divisible(self, task: Task) -> bool:
        """Whether those of a batch are the mean of those of its parts."""

    def is_divisible_in_step(self, task: Task) -> bool:
        """Whether they are where batch norms go by all parts, which are of equal length."""


@dataclass(frozen=True)
class Gradient:
    """The gradient of a batch's loss in the named tensors; ``absolute``: its |.|."""

    weights: State
    names: Sequence[str]
    batch_statistics: bool
    temperature: float = 1.0
    absolute: bool = False

    def __call__(self, task: Task, batch: Batch) -> Iterator[State]:
        found = derivatives.gradient(
            task,
            derivatives.to_device_and_dtype(task, self.weights),
            self.names,
            batch,
            batch_statistics=self.batch_statistics,
            temperature=self.temperature,
        )
        yield {n: g.abs() for n, g in found.items()} if self.absolute else found

    def zeros(self) -> State:
        return {name: torch.zeros_like(self.weights[name]) for name in self.names}

    def is_divisible(self, task: Task) -> bool:
        return not self.absolute and is_divisible(task, batch_statistics=self.batch_statistics)

    def is_divisible_in_step(self, task: Task) -> bool:
        mixing = derivatives.mixing(task, batch_statistics=self.batch_statistics)
        # a class with a forward pass of its own may compute statistics in another way
        known = all(type(module).forward is _BatchNorm.forward for module in mixing)
        return known and not self.absolute


@dataclass(frozen=True)
class HessianProduct:
    """H v of a batch's loss, in the tensors that ``along`` (v) names."""

    weights: State
    along: State
    batch_statistics: bool
    temperature: float = 1.0

    def __call__(self, task: Task, batch: Batch) -> Iterator[State]:
        yield derivatives.hessian_product(
            task,
            derivatives.to_device_and_dtype(task, self.weights),
            derivatives.to_device_and_dtype(task, self.along),
            batch,
            batch_statistics=self.batch_statistics,
            temperature=self.temperature,
        )

    def zeros(self) -> State:
        return {name: torch.zeros_like(value) for name, value in self.along.items()}

    def is_divisible(self, task: Task) -> bool:
        return is_divisible(task, batch_statistics=self.batch_statistics)

    def is_divisible_in_step(self, task: Task) -> bool:
        return False  # a batch norm of several processes is derived once


def is_divisible(task: Task, *, batch_statistics: bool) -> bool:
    """Whether a loss is the mean of those of parts of a batch, each computed by itself.

    Not so where samples meet in batch statistics. Weights that are drawn in training are not drawn
    here: a score asks a network that evaluates, whose draws are the same for every sample.
    """
    return not derivatives.mixing(task, batch_statistics=batch_statistics)


def mean(task: Task, terms: Means, batches: Iterable[Batch]) -> State:
    """Averages terms over batches; where several processes share sums, each takes a part.

    Of each batch where it is divisible, else of the batches; of one that is not there is none.
    """
    if task.sharing is None:
        return derivatives.mean(term for batch in batches for term in terms(task, batch))
    given, sharing = list(batches), task.sharing
    divided = _divided(task, given, sharing.num)
    if terms.is_divisible(task):
        return sharing.add_up(task, terms, divided)
    if terms.is_divisible_in_step(task) and _are_alike(divided, len(given)):
        return sharing.add_up(task, terms, divided, in_step=True)
    if len(given) == 1:
        return derivatives.mean(terms(task, given[0]))
    return sharing.add_up(task, terms, _dealt(given, sharing.num))


def _are_alike(shares: Sequence[Sequence[Part]], num_batches: int) -> bool:
    """Whether all shares have a part of each batch, equal ones."""
    lengths = [[(factor, tree.length(part[1])) for factor, part in share] for share in shares]
    return len(lengths[0]) == num_batches and all(one == lengths[0] for one in lengths)


def total(task: Task, terms: Terms, batches: Sequence[Batch]) -> State:
    """Adds up terms that are sums over samples; several processes take a part of each batch."""
    if task.sharing is None:
        return added_up(task, terms, [(1.0, batch) for batch in batches])
    shares = [[(1.0, part) for batch in batches for part in _part(batch, one)]
              for one in _ranks(task.sharing.num)]  # fmt: skip
    return task.sharing.add_up(task, terms, shares)


def _divided(task: Task, batches: Sequence[Batch], num: int) -> list[list[Part]]:
    """Cuts every batch into parts, whose factors are their shares of what it is the mean of."""
    weigh = task.objective.weight
    return [
        [
            (weigh(part[1]) / weigh(batch[1]) / len(batches), part)
            for batch in batches
            for part in _part(batch, rank)
            if weigh(part[1])
        ]
        for rank in _ranks(num)
    ]


def _dealt(batches: Sequence[Batch], num: int) -> list[list[Part]]:
    """Deals whole batches out, one after the other."""
    parts = [(1 / len(batches), batch) for batch in batches]
    return [parts[number::num] for number in range(num)]


def _ranks(num: int) -> list[Rank]:
    return [Rank(number, num) for number in range(num)]


def _part(batch: Batch, rank: Rank) -> list[Batch]:
    """Cuts a rank's samples out of a batch; nothing where there are fewer than ranks."""
    begin, end = rank.share(tree.length(batch[1]))
    if begin == end:
        return []
    inputs, targets = (tree.each(lambda value: value[begin:end], one) for one in batch)
    return [(inputs, targets)]
