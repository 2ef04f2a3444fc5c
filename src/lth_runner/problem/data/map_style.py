"""A user's own data set, its samples fetched when they are asked for."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lth_runner.problem.data.different_targets import DifferentTargets, content
from lth_runner.problem.data.splits import described_pair, standard
from lth_runner.values import identity, tree
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import all_seeded
from lth_runner.values.object_identity import outline
from lth_runner.values.raised import reason_of
from lth_runner.values.seeds import stream as generator
from lth_runner.values.tree import Batch, Tree

HASHED_LOOKS = 2  # at every sample, under seeds of its own: what is random shows
FEW = 256  # samples whose targets are checked where there is no look at all
LOOKS = 8  # at one sample under one seed: a coin of its own shows in all but 1 of 128 cases
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class MapStyle:
    """A ``torch.utils.data.Dataset`` with a length, its samples fetched one by one when asked for.

    Each item is a pair (inputs, targets) of tensors, arrays or numbers, and all have one shape;
    inputs may be a mapping by name. Whole numbers become int64, but for inputs in uint8, other
    numbers float32. What is random about an item may come from torch's, numpy's and Python's global
    streams: they are seeded for every sample of every step and put back. Two sets are one where
    their samples are, looked at twice each, and their class, code, and public numbers and texts.
    ``given``: a name of the contents, transforms and all, in place of that, for sets that are dear
    to read. Raises UserError for a set without a length, for items that are no such pairs, and for
    ones that differ under one seed.
    """

    dataset: Any
    name: str = "dataset"
    given: str | None = None
    described: str = field(init=False, default="", repr=False)  # as it came: items may be kept

    def __post_init__(self) -> None:
        described = identity.canonical(outline(self.dataset))
        object.__setattr__(self, "described", described)
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
        """Hashes what the set is, unless ``given`` names it; refuses a sample of another shape."""
        if self.given is not None:
            return identity.digest(["given", self.given, len(self)])
        return self._looked_at[0]

    @property
    def targets(self) -> list[Tree]:
        """Lists different targets, one sample each, of all samples, or of a few under ``given``."""
        if self.given is None:
            return self._looked_at[1]
        numbers = torch.linspace(0, len(self) - 1, min(FEW, len(self)), dtype=torch.float64).long()
        _log.warning(
            "%s: dataset.given=%s names the contents, so that the targets of %d of %d samples "
            "alone are checked", self.name, self.given, len(numbers), len(self),
        )  # fmt: skip
        return [self._alone(number)[1] for number in numbers.tolist()]

    @cached_property
    def _looked_at(self) -> tuple[str, list[Tree]]:
        """The hash of all samples and what ``targets`` lists, in one pass over the set."""
        digest, different = hashlib.sha256(self.described.encode()), DifferentTargets()
        first = described_pair(self._alone(0))
        for number in range(len(self)):
            for look in range(HASHED_LOOKS):
                sample = self._alone(number, look)
                if (found := described_pair(sample)) != first:
                    raise UserError(
                        f"{self.name}: sample {number} is {found}, the first one {first}: samples "
                        "are stacked to a batch, so make all alike, by padding for example"
                    )
                for part in sample:
                    digest.update(content(part))
                different.add(sample[1])
        return digest.hexdigest(), different.kept

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        """Fetches items and stacks them, each under a seed of its own."""
        seeds = torch.randint(2**31, (len(index),), generator=draw).tolist()
        numbers = index.tolist()
        items = [self._item(*each) for each in zip(numbers, seeds, strict=True)]
        return self._stacked(numbers, [x for x, _ in items]), self._targets(numbers, items)

    def _alone(self, number: int, look: int = 0) -> Batch:
        return self.take(torch.tensor([number]), generator(0, "look", number, look))

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
                f"batch: {reason_of(error)}"
            ) from error
        plain = isinstance(found, Mapping) and all(isinstance(v, Tensor) for v in found.values())
        if not plain and not isinstance(found, Tensor):
            raise UserError(
                f"{self.name}: sample {numbers[0]} holds a {type(values[0]).__name__}: give a "
                "tensor, an array or a number, or a mapping of these by name"
            )
        return tree.each(standard, found)


def _equal(one: Batch, other: Batch) -> bool:
    pairs = zip(one, other, strict=True)
    return all(
        torch.equal(a, b) or bool(a.isnan().any())
        for x, y in pairs
        for a, b in zip(tree.tensors(x), tree.tensors(y), strict=True)
    )
