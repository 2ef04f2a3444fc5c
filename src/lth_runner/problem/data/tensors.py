"""Data as tensors: three splits in memory, normalisation, augmentation, and an identity."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lth_runner.problem.data.splits import (
    Split,
    as_split,
    check_split,
    hold_out,
    keep_subset,
    read_batches,
)
from lth_runner.problem.data.stream import Augment, Stream
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.seeds import stream as generator

SPLITS = ("train", "val", "test")
FLOAT_LIMIT = 2**30  # bytes: larger float copies of uint8 images are normalised batch by batch


@dataclass(frozen=True, eq=False, kw_only=True)
class Data:
    """A classification problem held in memory.

    A batch is ``(inputs * unit - mean) / std`` per channel, with unit 1/255 for uint8 inputs and 1
    for float ones. ``normalised`` says that the inputs already went through it (see ``to``).
    Raises UserError for splits that do not fit together, non-finite inputs and impossible labels.
    """

    train: Split
    val: Split
    test: Split
    num_classes: int
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    augment: Augment = field(default_factory=Augment)
    name: str = "tensors"
    normalised: bool = False
    nominal_train: int | None = None  # training samples before ``limited``; None: all are here

    def __post_init__(self) -> None:
        _check_splits(self)
        _check_moments(self)
        _check_augment(self)

    @classmethod
    def from_tensors(
        cls,
        train: tuple[Any, Any],
        test: tuple[Any, Any],
        val: tuple[Any, Any] | None = None,
        *,
        validation: float = 0.1,
        split_seed: int = 0,
        mean: tuple[float, ...] = (0.0,),
        std: tuple[float, ...] = (1.0,),
        augment: Augment | None = None,
        num_classes: int | None = None,
        name: str = "tensors",
    ) -> Data:
        """Data from (inputs, labels) pairs of tensors or arrays.

        Without ``val``, ``validation`` samples (a count, or a fraction below 1; 0 for none) are
        held out of ``train`` by ``split_seed``. ``num_classes`` defaults to the largest label + 1.
        """
        kept, tested = as_split(train, f"{name}: train"), as_split(test, f"{name}: test")
        if not len(kept[1]):
            raise UserError(f"{name}: train is empty: it needs at least one sample")
        if val is None:
            kept, held = hold_out(kept, validation, seed=split_seed)
        else:
            held = as_split(val, f"{name}: val")
        if num_classes is None:
            num_classes = max(int(y.max()) + 1 for _, y in (kept, held, tested) if len(y))
        return cls(
            train=kept,
            val=held,
            test=tested,
            num_classes=num_classes,
            mean=tuple(mean),
            std=tuple(std),
            augment=augment or Augment(),
            name=name,
        )

    @classmethod
    def from_loaders(
        cls,
        train: Iterable[tuple[Any, Any]],
        test: Iterable[tuple[Any, Any]],
        val: Iterable[tuple[Any, Any]] | None = None,
        **options: Any,
    ) -> Data:
        """Data from iterables of (inputs, labels) batches, each read once; see ``from_tensors``.

        A loader's own transforms are part of what is read, so its random ones are frozen here.
        """
        return cls.from_tensors(
            read_batches(train, "train"),
            read_batches(test, "test"),
            None if val is None else read_batches(val, "val"),
            **options,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, for example (3, 32, 32)."""
        return tuple(self.train[0].shape[1:])

    @property
    def num_train(self) -> int:
        """The number of training samples."""
        return len(self.train[1])

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.train[0].device

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the raw tensors, mean, std and augmentation: the same on every device."""
        moments = [self.mean, self.std, self.normalised, self.num_classes]
        nominal = [self.nominal_train] if self.nominal_train not in (None, self.num_train) else []
        facts = [*moments, self.augment.flip, self.augment.crop, *nominal]
        digest = hashlib.sha256(repr(facts).encode())
        for tensor in (*self.train, *self.val, *self.test):
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            array = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
            digest.update(array.data)
        return digest.hexdigest()

    def limited(self, max_samples: int | None) -> Data:
        """At most ``max_samples`` of each split, drawn by a fixed seed; all of them for None."""
        if max_samples is None:
            return self
        if isinstance(max_samples, bool) or not isinstance(max_samples, int) or max_samples < 1:
            raise UserError(f"max_samples={max_samples!r}: give a whole number above 0, or null")

        def cut(split: Split) -> Split:  # drawn, and not the first ones: folders come by class
            few = len(split[1]) > max_samples
            return keep_subset(split, max_samples, seed=0) if few else split

        return replace(
            self,
            train=cut(self.train),
            val=cut(self.val),
            test=cut(self.test),
            nominal_train=self.nominal_train or self.num_train,
        )

    def epoch(self, batch_size: int) -> int:
        """Steps that an epoch counts for in a duration: those of the whole training set."""
        return (self.nominal_train or self.num_train) // batch_size

    def to(self, device: torch.device | str) -> Data:
        """The data on a device, normalised once and for all where memory allows it.

        The batches hold the same numbers either way, and the fingerprint is that of the raw data.
        """
        splits = (self.train, self.val, self.test)
        num_values = sum(inputs.numel() for inputs, _ in splits)
        at_once = not self.normalised and not self.augment and num_values * 4 < FLOAT_LIMIT
        raw = [(inputs.to(device), labels.to(device)) for inputs, labels in splits]
        moved = replace(self, train=raw[0], val=raw[1], test=raw[2])
        if at_once:
            ready = [(moved._normalise(inputs), labels) for inputs, labels in raw]
            moved = replace(self, train=ready[0], val=ready[1], test=ready[2], normalised=True)
        moved.__dict__["fingerprint"] = self.fingerprint  # where cached_property looks
        return moved

    def stream(self, batch_size: int, seed: int, order: int = 0) -> Stream:
        """Training batches by step; ``order`` tells apart the orders of one seed."""
        return Stream(
            *self.train,
            batch_size=batch_size,
            seed=seed,
            order=order,
            augment=self.augment,
            normalise=None if self.normalised else self._normalise,
        )

    def batches(self, split: str, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """A split in order, for evaluation: normalised, never augmented, the last batch short."""
        if split not in SPLITS:
            raise UserError(f"no split is called {split!r}: {nearest(split, SPLITS)}")
        if size < 1:
            raise UserError(f"evaluation batch size is {size}: give at least 1")
        inputs, labels = getattr(self, split)
        for begin in range(0, len(labels), size):
            batch = inputs[begin : begin + size]
            yield self._ready(batch), labels[begin : begin + size]

    def sample(self, num: int, seed: int) -> tuple[Tensor, Tensor]:
        """``num`` training samples drawn without replacement by a seed, normalised, unaugmented."""
        if not 1 <= num <= self.num_train:
            raise UserError(
                f"cannot draw {num} of {self.num_train} training samples:"
                f" accepted 1 to {self.num_train}"
            )
        permutation = torch.randperm(self.num_train, generator=generator(seed, "sample"))
        index = permutation[:num].to(self.device)
        inputs, labels = self.train
        return self._ready(inputs.index_select(0, index)), labels.index_select(0, index)

    def _ready(self, inputs: Tensor) -> Tensor:
        return inputs if self.normalised else self._normalise(inputs)

    def _normalise(self, inputs: Tensor) -> Tensor:
        # two roundings (subtract, then multiply), on whole data and on a batch alike: equal bits
        shift, scale = self._affine
        return (inputs - shift).mul_(scale)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        unit = 255.0 if self.train[0].dtype == torch.uint8 else 1.0
        shift = torch.tensor([unit * m for m in self.mean])
        scale = torch.tensor([1.0 / (unit * s) for s in self.std])
        if len(self.mean) > 1:
            view = (-1, *[1] * (len(self.shape) - 1))
            shift, scale = shift.view(view), scale.view(view)
        return shift.to(self.device), scale.to(self.device)


def _check_splits(data: Data) -> None:
    for split in SPLITS:
        inputs, labels = getattr(data, split)
        where = f"{data.name}: {split}"
        check_split((inputs, labels), where)
        if tuple(inputs.shape[1:]) != data.shape or inputs.dtype != data.train[0].dtype:
            raise UserError(
                f"{where} samples are {inputs.dtype} of shape {tuple(inputs.shape[1:])}, train's"
                f" are {data.train[0].dtype} of shape {data.shape}: give the same in every split"
            )
        if len(labels):
            _check_values(data, inputs, labels, where)
        elif split != "val":
            raise UserError(f"{where} is empty: it needs at least one sample")


def _check_values(data: Data, inputs: Tensor, labels: Tensor, where: str) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= data.num_classes:
        raise UserError(
            f"{where} labels run from {low} to {high}:"
            f" accepted 0 to {data.num_classes - 1} (num_classes={data.num_classes})"
        )
    if inputs.is_floating_point() and not data.normalised and not inputs.isfinite().all():
        raise UserError(f"{where} inputs hold NaN or infinite values: clean the data first")


def _check_moments(data: Data) -> None:
    accepted = sorted({1, data.shape[0]})
    if len(data.mean) != len(data.std) or len(data.mean) not in accepted:
        raise UserError(
            f"{data.name}: mean has {len(data.mean)} and std {len(data.std)} values:"
            f" give {' or '.join(map(str, accepted))} of each (all, or one per channel)"
        )
    if not all(math.isfinite(m) for m in data.mean):
        raise UserError(f"{data.name}: mean is {data.mean}: give finite numbers")
    if not all(math.isfinite(s) and s > 0 for s in data.std):
        raise UserError(f"{data.name}: std is {data.std}: give positive numbers")


def _check_augment(data: Data) -> None:
    if data.augment and len(data.shape) != 3:
        raise UserError(
            f"{data.name}: flip and crop need images (channels, height, width), but a sample"
            f" has shape {data.shape}: switch the augmentation off"
        )
    if data.augment.crop >= min(data.shape[1:], default=math.inf):
        raise UserError(
            f"{data.name}: dataset.augment_crop={data.augment.crop} would crop some images to "
            f"their black border alone: at most {min(data.shape[1:]) - 1} for images of "
            f"{data.shape[1]} x {data.shape[2]}"
        )
    if data.augment and data.normalised:
        raise UserError(
            f"{data.name}: augmentation comes before normalisation: set it before .to(device)"
        )
