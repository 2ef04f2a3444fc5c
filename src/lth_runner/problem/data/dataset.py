"""The seam for data: what a task asks of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, runtime_checkable

import torch

from lth_runner.values import tree
from lth_runner.values.tree import Batch


class Batches(Protocol):
    """Endless training batches: each is a function of (seed, order, step) and nothing else."""

    @property
    def steps_per_epoch(self) -> int:
        """How many batches go through the training samples once."""

    def __getitem__(self, step: int) -> Batch: ...


@runtime_checkable
class Divisible(Protocol):
    """Batches of which a part can be made without the rest."""

    def part(self, begin: int, end: int) -> Batches:
        """Returns the same batches, of each the samples from ``begin`` on and before ``end``."""


@runtime_checkable
class Dealt(Protocol):
    """Data of which some batches of a split can be made without the others."""

    def dealt(self, split: str, size: int, first: int, every: int) -> Iterator[Batch]:
        """Goes through what ``batches`` gives from place ``first`` on, taking each ``every``th."""


@dataclass(frozen=True)
class Part:
    """A part of each of somebody's batches, which are made whole for it."""

    batches: Batches
    begin: int
    end: int

    @property
    def steps_per_epoch(self) -> int:
        return self.batches.steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        inputs, targets = (
            tree.each(lambda value: value[self.begin : self.end], half)
            for half in self.batches[step]
        )
        return inputs, targets


def part_of(batches: Batches, begin: int, end: int) -> Batches:
    """Returns a part of each batch, made without the rest where that can be had."""
    if isinstance(batches, Divisible):
        return batches.part(begin, end)
    return Part(batches, begin, end)


def dealt(data: Dataset, split: str, size: int, first: int, every: int) -> Iterator[Batch]:
    """Goes through each ``every``th batch of a split, from place ``first`` on."""
    if isinstance(data, Dealt):
        return data.dealt(split, size, first, every)
    return islice(data.batches(split, size), first, None, every)


@runtime_checkable
class Awaited(Protocol):
    """Batches that worker processes make, for which a training may have to wait."""

    @property
    def waited(self) -> float:
        """The seconds that were spent waiting for them, since training began or went on."""

    @property
    def by_workers(self) -> bool:
        """Whether there are worker processes at all."""


class Dataset(Protocol):
    """Three splits, train, val and test, that hand out batches."""

    @property
    def name(self) -> str:
        """What messages call the data."""

    @property
    def num_classes(self) -> int | None:
        """How many classes, or tokens in the vocabulary; None where there is no such number."""

    @property
    def nominal_train(self) -> int | None:
        """How many training samples there were before ``limited``; None where all are here."""

    @property
    def num_train(self) -> int:
        """How many training samples there are."""

    @property
    def fingerprint(self) -> str:
        """What tells contents apart, wherever they lie."""

    def limited(self, max_samples: int | None) -> Dataset:
        """Keeps at most so many samples of each split, drawn by a fixed seed; all for None."""

    def to(self, device: torch.device | str) -> Dataset:
        """Returns the data with its batches on a device."""

    def unaugmented(self) -> Dataset:
        """Returns the same samples as they are."""

    def epoch(self, batch_size: int) -> int:
        """Counts the steps of an epoch in a duration, which is that of all nominal samples."""

    def stream(self, batch_size: int, seed: int, order: int = 0) -> Batches:
        """Returns training batches by step; ``order`` tells apart the orders of one seed."""

    def batches(self, split: str, size: int) -> Iterator[Batch]:
        """Goes through a split in order, for evaluation."""

    def sample(self, num: int, seed: int) -> Batch:
        """Draws training samples without replacement."""
