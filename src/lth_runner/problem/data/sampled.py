"""Three splits of samples that are made when they are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from lth_runner.problem.data.finish import Finish
from lth_runner.problem.data.order import Order, sent
from lth_runner.problem.data.samples import Samples, Subset
from lth_runner.problem.data.splits import numbers_held_out, numbers_kept
from lth_runner.problem.data.workers import Ahead, Request, Requests
from lth_runner.values import identity, tree
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.seeds import stream as generator
from lth_runner.values.tree import Batch

SPLITS = ("train", "val", "test")
EVALUATED = 256  # samples of one batch at most: what a batch takes is not known
FEW = 16  # samples that are made sooner here than by workers
PLAIN = "plain"  # the training samples as they are


@dataclass(frozen=True, eq=False, kw_only=True)
class SampledData:
    """Data in splits of ``Samples``; nothing of it need fit into memory.

    ``val`` may be None. ``num_classes``: of classes, or of tokens in the vocabulary;
    ``class_names``: theirs by number, where they have names.
    ``evaluated``: samples of one batch in evaluation at most. ``plain``: the training samples
    without what is random about them, where that can be left out; ``finish``: what is done to a
    batch of images on its device. ``workers`` processes make batches ahead of time, which decides
    no result; ``told`` is a line about where the samples come from.
    """

    train: Samples
    val: Samples | None
    test: Samples
    num_classes: int | None = None
    name: str = "samples"
    device: torch.device | str = "cpu"
    nominal_train: int | None = None
    evaluated: int = EVALUATED
    plain: Samples | None = None
    finish: Finish | None = None
    workers: int = 0
    told: str = ""
    class_names: tuple[str, ...] = ()

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
        rest, held = numbers_held_out(len(train), validation, seed=split_seed)
        return cls(
            train=Subset(train, rest),
            val=Subset(train, held) if len(held) else None,
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
        finish = [] if self.finish is None else [self.finish.identity]
        return identity.digest([*parts, self.num_classes, *nominal, *finish])

    def limited(self, max_samples: int | None) -> SampledData:
        """Keeps at most ``max_samples`` of each split, drawn by a fixed seed; all for None."""
        if max_samples is None:
            return self
        if isinstance(max_samples, bool) or not isinstance(max_samples, int) or max_samples < 1:
            raise UserError(f"max_samples={max_samples!r}: give a whole number above 0, or null")

        def cut(samples: Samples) -> Samples:
            if len(samples) <= max_samples:
                return samples
            return Subset(samples, numbers_kept(len(samples), max_samples, seed=0))

        return replace(
            self,
            train=cut(self.train),
            val=None if self.val is None else cut(self.val),
            test=cut(self.test),
            plain=None if self.plain is None else cut(self.plain),
            nominal_train=self.nominal_train or self.num_train,
        )

    def to(self, device: torch.device | str) -> SampledData:
        """Returns the data with batches on a device; the samples stay where they are."""
        moved = replace(self, device=device)
        if "fingerprint" in self.__dict__:
            moved.__dict__["fingerprint"] = self.fingerprint
        return moved

    def unaugmented(self) -> SampledData:
        """Returns the samples as they are, or the data itself: what is random may be part of one.

        Images that are decoded when asked for are cut and resized as in evaluation.
        """
        if self.plain is None:
            return self
        finish = None if self.finish is None else self.finish.unaugmented()
        return replace(self, train=self.plain, finish=finish)

    def epoch(self, batch_size: int) -> int:
        """Counts the steps of an epoch of the whole training set."""
        return (self.nominal_train or self.num_train) // batch_size

    def stream(self, batch_size: int, seed: int, order: int = 0) -> SampledBatches:
        """Returns training batches by step; ``order`` tells apart the orders of one seed."""
        chosen = Order(self.num_train, batch_size, seed, order)
        return SampledBatches(self, Steps(chosen, seed, order))

    def batches(self, split: str, size: int) -> Iterator[Batch]:
        """Goes through a split in order, for evaluation, with the same draws each time."""
        return self.dealt(split, size, 0, 1)

    def dealt(self, split: str, size: int, first: int, every: int) -> Iterator[Batch]:
        """Goes through each ``every``th of these batches, from place ``first`` on."""
        if split not in SPLITS:
            raise UserError(f"no split is called {split!r}: {nearest(split, SPLITS)}")
        samples: Samples | None = getattr(self, split)
        num, size = 0 if samples is None else len(samples), min(size, self.evaluated)
        named = PLAIN if split == "train" and self.plain is not None else split
        whole = InOrder(named, num, size)
        requests = whole if every == 1 else Every(whole, first, every)
        for place in range(len(range(first, -(-num // size), every))):
            yield self._finished(self.made(requests, place))

    def sample(self, num: int, seed: int) -> Batch:
        """Draws ``num`` training samples without replacement, as they are where that can be had."""
        if not 1 <= num <= self.num_train:
            raise UserError(
                f"cannot draw {num} of {self.num_train} training samples:"
                f" accepted 1 to {self.num_train}"
            )
        index = torch.randperm(self.num_train, generator=generator(seed, "sample"))[:num]
        if self.plain is None:
            return self.placed(self.train.take(index, generator(seed, "sample", "draw")))
        if num <= FEW:
            return self._finished(self.plain.take(index, generator(seed, "sample", "draw")))
        requests = InOrder(PLAIN, num, min(num, self.evaluated), index)
        pieces = [self.made(requests, place) for place in range(-(-num // requests.size))]
        inputs, targets = (tree.cat([piece[part] for piece in pieces]) for part in (0, 1))
        return self._finished((inputs, targets))

    def made(self, requests: Requests, place: int) -> Batch:
        """Makes a batch, by the workers where there are some, as it comes from the samples."""
        if self._ahead is not None:
            return self._ahead.take(requests, place)
        return requests[place].made(self._splits)

    @cached_property
    def _splits(self) -> dict[str, Samples]:
        named = {"train": self.train, "val": self.val, "test": self.test, PLAIN: self.plain}
        return {name: samples for name, samples in named.items() if samples is not None}

    @cached_property
    def _ahead(self) -> Ahead | None:
        pinned = torch.device(self.device).type == "cuda"
        return Ahead(self._splits, self.workers, pinned=pinned) if self.workers else None

    def _finished(self, batch: Batch) -> Batch:
        placed = self.placed(batch)
        return placed if self.finish is None else self.finish.plain(placed)

    def placed(self, batch: Batch) -> Batch:
        """Sends a batch to the device."""
        device = torch.device(self.device)
        if device.type == "cpu":
            return batch
        inputs, targets = (tree.each(lambda v: sent(v, device), part) for part in batch)
        return inputs, targets


@dataclass(frozen=True, eq=False)
class InOrder:
    """The batches of an evaluation, of a split in its order or of the samples of ``index``."""

    split: str
    num: int
    size: int
    index: Tensor | None = None

    def __getitem__(self, place: int) -> Request:
        begin, end = place * self.size, min((place + 1) * self.size, self.num)
        if begin >= end:
            raise IndexError(place)
        index = torch.arange(begin, end) if self.index is None else self.index[begin:end]
        return Request(self.split, index, (0, "evaluate", self.split, begin))


@dataclass(frozen=True, eq=False)
class Every:
    """Each ``every``th of some requests, from place ``first`` on."""

    requests: Requests
    first: int
    every: int

    def __getitem__(self, place: int) -> Request:
        return self.requests[self.first + place * self.every]


class SampledBatches:
    """Training batches by step, made of the samples' own ``take``, and finished on the device.

    ``waited``: seconds that were spent waiting for them since it was made.
    """

    def __init__(self, data: SampledData, requests: Steps) -> None:
        self._data, self._requests = data, requests
        self.steps_per_epoch = requests.chosen.steps_per_epoch
        self.waited = 0.0
        self._last: tuple[int, Batch] | None = None

    @property
    def by_workers(self) -> bool:
        return self._data.workers > 0

    def __getitem__(self, step: int) -> Batch:
        began = time.perf_counter()
        if self._last is None or self._last[0] != step:  # else it is asked for twice
            self._last = None  # not two of them in memory
            self._last = step, self._data.made(self._requests, step)
        self.waited += time.perf_counter() - began
        batch, finish = self._data.placed(self._last[1]), self._data.finish
        if finish is None:
            return batch
        made = self._requests
        part = made.begin, len(made.chosen[step])
        return finish.augmented(batch, made.seed, made.order, step, part)

    def part(self, begin: int, end: int) -> SampledBatches:
        """Returns a part of each batch, whose draws are others but for the part that comes first.

        What is drawn for a batch is drawn for all its samples in turn, and the other samples are
        not made here.
        """
        return SampledBatches(self._data, replace(self._requests, begin=begin, end=end))


@dataclass(frozen=True, eq=False)
class Steps:
    """The batches of a training, by step; of each the samples from ``begin`` on, before ``end``."""

    chosen: Order
    seed: int
    order: int
    begin: int = 0
    end: int | None = None

    def __getitem__(self, step: int) -> Request:
        own = (self.begin,) if self.begin else ()
        index = self.chosen[step][self.begin : self.end]
        return Request("train", index, (self.seed, "augment", self.order, step, *own))
