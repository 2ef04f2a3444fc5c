"""The seam for data: what a Task asks of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import torch

from lth_runner.values.tree import Batch


class Batches(Protocol):
    """Endless training batches: each is a function of (seed, order, step) and nothing else."""

    steps_per_epoch: int

    def __getitem__(self, step: int) -> Batch: ...


class Dataset(Protocol):
    """Three splits, train, val and test, that hand out batches.

    ``num_classes`` is the number of classes, or of tokens in the vocabulary; None where there is
    no such number. ``nominal_train`` is the number of training samples before ``limited``; None
    where all are here. ``fingerprint`` tells contents apart, wherever they lie.
    """

    @property
    def name(self) -> str: ...
    @property
    def num_classes(self) -> int | None: ...
    @property
    def nominal_train(self) -> int | None: ...
    @property
    def num_train(self) -> int: ...
    @property
    def fingerprint(self) -> str: ...
    def limited(self, max_samples: int | None) -> Dataset: ...  # of each split, drawn by one seed
    def to(self, device: torch.device | str) -> Dataset: ...
    def unaugmented(self) -> Dataset: ...  # the same samples, as they are
    def epoch(self, batch_size: int) -> int: ...  # steps that an epoch counts for in a duration
    def stream(self, batch_size: int, seed: int, order: int = 0) -> Batches: ...
    def batches(self, split: str, size: int) -> Iterator[Batch]: ...  # in order, for evaluation
    def sample(self, num: int, seed: int) -> Batch: ...  # of train, without replacement
