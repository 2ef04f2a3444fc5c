"""Three splits of samples that are made when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch

from lth_runner.problem.data.order import Order, sent
from lth_runner.problem.data.samples import Samples, Subset
from lth_runner.problem.data.splits import count_of
from lth_runner.values import identity, tree
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.seeds import stream as generator
from lth_runner.values.tree import Batch

SPLITS = ("train", "val", "test")
EVALUATED = 256  # samples of one batch at most: what a batch takes is not known


@dataclass(frozen=True, eq=False, kw_only=True)
class SampledData:
    """Data in splits of ``Samples``; nothing of it need fit into memory.

    ``val`` may be None. ``num_classes``: of classes, or of tokens in the vocabulary.
    ``evaluated``: samples of one batch in evaluation at most.
    """

    train: Samples
    val: Samples | None
    test: Samples
    num_classes: int | None = None
    name: str = "samples"
    device: torch.device | str = "cpu"
    nominal_train: int | None = None
    evaluated: int = EVALUATED

    @classmethod
    def held_out(
        cls,
        train: Samples,
        test: Samples,
        *,
        validation: float,
        split_seed: int = 0,
        num_classes: int | None = None,
        name: str = "samples",
    ) -> SampledData:
        """Holds ``validation`` samples out of train: a count, or a fraction below 1."""
        num = count_of(validation, len(train), key="validation", least=0, most=len(train) - 1)
        permutation = torch.randperm(len(train), generator=generator(split_seed, "split"))
        rest, held = permutation[num:].sort().values, permutation[:num].sort().values
        return cls(
            train=Subset(train, rest),
            val=Subset(train, held) if num else None,
            test=test,
            num_classes=num_classes,
            name=name,
        )

    @property
    def num_train(self) -> int:
        return len(self.train)

    @cached_property
    def fingerprint(self) -> str:
        parts = [s.fingerprint if s is not None else "" for s in (self.train, self.val, self.test)]
        nominal = [self.nominal_train] if self.nominal_train not in (None, self.num_train) else []
        return identity.digest([*parts, self.num_classes, *nominal])

    def limited(self, max_samples: int | None) -> SampledData:
        """Keeps at most ``max_samples`` of each split, drawn by a fixed seed; all for None."""
        if max_samples is None:
            return self
        if isinstance(max_samples, bool) or not isinstance(max_samples, int) or max_samples < 1:
            raise UserError(f"max_samples={max_samples!r}: give a whole number above 0, or null")

        def cut(samples: Samples) -> Samples:
            if len(samples) <= max_samples:
                return samples
            order = torch.randperm(len(samples), generator=generator(0, "subset"))
            return Subset(samples, order[:max_samples].sort().values)

        return replace(
            self,
            train=cut(self.train),
            val=None if self.val is None else cut(self.val),
            test=cut(self.test),
            nominal_train=self.nominal_train or self.num_train,
        )

    def to(self, device: torch.device | str) -> SampledData:
        """Returns the data with batches on a device; the samples stay where they are."""
        moved = replace(self, device=device)
        if "fingerprint" in self.__dict__:
            moved.__dict__["fingerprint"] = self.fingerprint
        return moved

    def unaugmented(self) -> SampledData:
        """Returns the data itself: what is random about a sample is part of it."""
        return self

    def epoch(self, batch_size: int) -> int:
        """Counts the steps of an epoch of the whole training set."""
        return (self.nominal_train or self.num_train) // batch_size

    def stream(self, batch_size: int, seed: int, order: int = 0) -> SampledBatches:
        """Returns training batches by step; ``order`` tells apart the orders of one seed."""
        return SampledBatches(self, batch_size, seed, order)

    def batches(self, split: str, size: int) -> Iterator[Batch]:
        """Goes through a split in order, for evaluation, with the same draws each time."""
        if split not in SPLITS:
            raise UserError(f"no split is called {split!r}: {nearest(split, SPLITS)}")
        samples: Samples | None = getattr(self, split)
        num, size = 0 if samples is None else len(samples), min(size, self.evaluated)
        for begin in range(0, num, size):
            assert samples is not None
            index = torch.arange(begin, min(begin + size, num))
            yield self.placed(samples.take(index, generator(0, "evaluate", split, begin)))

    def sample(self, num: int, seed: int) -> Batch:
        """Draws ``num`` training samples without replacement."""
        if not 1 <= num <= self.num_train:
            raise UserError(
                f"cannot draw {num} of {self.num_train} training samples:"
                f" accepted 1 to {self.num_train}"
            )
        index = torch.randperm(self.num_train, generator=generator(seed, "sample"))[:num]
        return self.placed(self.train.take(index, generator(seed, "sample", "draw")))

    def placed(self, batch: Batch) -> Batch:
        """Sends a batch to the device."""
        device = torch.device(self.device)
        if device.type == "cpu":
            return batch
        inputs, targets = (tree.each(lambda v: sent(v, device), part) for part in batch)
        return inputs, targets


class SampledBatches:
    """Training batches by step, made of the samples' own ``take``."""

    def __init__(self, data: SampledData, batch_size: int, seed: int, order: int) -> None:
        self._data, self._seed, self._order = data, seed, order
        self._chosen = Order(data.num_train, batch_size, seed, order)
        self.steps_per_epoch = self._chosen.steps_per_epoch

    def __getitem__(self, step: int) -> Batch:
        index = self._chosen[step]
        draw = generator(self._seed, "augment", self._order, step)
        return self._data.placed(self._data.train.take(index, draw))
