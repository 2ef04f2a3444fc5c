"""A user's own data set, its samples fetched when they are asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lth_runner.problem.data.global_streams import all_seeded
from lth_runner.problem.data.splits import standard
from lth_runner.values import identity, tree
from lth_runner.values.errors import UserError
from lth_runner.values.tree import Batch, Tree

LOOKS = 8  # at one sample under one seed: a coin of its own shows in all but 1 of 128 cases


@dataclass(frozen=True, eq=False)
class MapStyle:
    """A ``torch.utils.data.Dataset`` with a length, its samples fetched one by one when asked for.

    Each item is a pair (inputs, targets) of tensors, arrays or numbers, and all have one shape;
    inputs may be a mapping by name. Whole numbers become int64, but for inputs in uint8, other
    numbers float32. What is random about an item may come from torch's, numpy's and Python's global
    streams: they are seeded for every sample of every step and put back. ``given``: a name of the
    contents, transforms and all, in place of a hash over all samples, for sets that are dear to
    read. Raises UserError for a set without a length, for items that are no such pairs, and for
    ones that differ under one seed.
    """

    dataset: Any
    name: str = "dataset"
    given: str | None = None

    def __post_init__(self) -> None:
        try:
            num = len(self.dataset)
        except TypeError as error:
            raise UserError(
                f"{self.name}: the data set {type(self.dataset).__name__} has no length: give one "
                "with __len__ and __getitem__ (map-style), not an iterable one"
            ) from error
        if not num:
            raise UserError(f"{self.name}: the data set is empty: it needs at least one sample")
        first, *again = (self._alone(0) for _ in range(LOOKS))
        if not all(_equal(first, other) for other in again):
            raise UserError(
                f"{self.name}: sample 0 differs from one look to the next under one seed of torch, "
                "numpy and random: a killed run could not go on; draw its random numbers from one "
                "of these"
            )

    @cached_property
    def fingerprint(self) -> str:
        """Hashes what all samples hold, unless ``given`` names it; refuses one of another shape."""
        if self.given is not None:
            return identity.digest(["given", self.given, len(self)])
        digest = hashlib.sha256()
        first = _described(self._alone(0))
        for number in range(len(self)):
            sample = self._alone(number)
            if (found := _described(sample)) != first:
                raise UserError(
                    f"{self.name}: sample {number} is {found}, the first one {first}: samples are "
                    "stacked to a batch, so make all alike, by padding for example"
                )
            for part in sample:
                digest.update(repr(sorted(part) if isinstance(part, Mapping) else []).encode())
                for value in tree.tensors(part):
                    digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
                    digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        """Fetches items and stacks them, each under a seed of its own."""
        seeds = torch.randint(2**31, (len(index),), generator=draw).tolist()
        numbers = index.tolist()
        items = [self._item(*each) for each in zip(numbers, seeds, strict=True)]
        return self._stacked(numbers, [x for x, _ in items]), self._targets(numbers, items)

    def _alone(self, number: int) -> Batch:
        return self.take(torch.tensor([number]), torch.Generator().manual_seed(0))

    def _item(self, number: int, seed: int) -> tuple[Any, Any]:
        with all_seeded(seed):
            item = self.dataset[number]
        if not isinstance(item, Sequence) or len(item) != 2:
            raise UserError(
                f"{self.name}: sample {number} is a {type(item).__name__}: give a pair (inputs, "
                "targets)"
            )
        return item[0], item[1]

    def _targets(self, numbers: Sequence[int], items: Sequence[tuple[Any, Any]]) -> Tree:
        stacked = self._stacked(numbers, [targets for _, targets in items])
        return tree.each(lambda v: v.long() if v.dtype == torch.uint8 else v, stacked)

    def _stacked(self, numbers: Sequence[int], values: Sequence[Any]) -> Tree:
        from torch.utils.data import default_collate

        try:
            found = default_collate(list(values))
        except (RuntimeError, TypeError, KeyError) as error:
            raise UserError(
                f"{self.name}: samples {', '.join(map(str, numbers[:3]))}, ... do not stack to a "
                f"batch: {(str(error).strip().splitlines() or [type(error).__name__])[0]}"
            ) from error
        plain = isinstance(found, Mapping) and all(isinstance(v, Tensor) for v in found.values())
        if not plain and not isinstance(found, Tensor):
            raise UserError(
                f"{self.name}: sample {numbers[0]} holds a {type(values[0]).__name__}: give a "
                "tensor, an array or a number, or a mapping of these by name"
            )
        return tree.each(standard, found)


def _described(sample: Batch) -> str:
    return " -> ".join(map(tree.describe, sample))


def _equal(one: Batch, other: Batch) -> bool:
    pairs = zip(one, other, strict=True)
    return all(
        torch.equal(a, b) or bool(a.isnan().any())
        for x, y in pairs
        for a, b in zip(tree.tensors(x), tree.tensors(y), strict=True)
    )
