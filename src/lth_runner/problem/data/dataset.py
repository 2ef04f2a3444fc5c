"""The seam for data: what a task asks of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import torch

from lth_runner.values.tree import Batch


class Batches(Protocol):
    """Endless training batches: each is a function of (seed, order, step) and nothing else."""

    steps_per_epoch: int

    def __getitem__(self, step: int) -> Batch: ...


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
