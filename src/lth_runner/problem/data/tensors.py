"""Data held in memory as tensors, in three splits."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lth_runner.problem.data.augmentation import Augmentation, FlipCrop
from lth_runner.problem.data.fits import (
    check_augmented,
    check_finite,
    check_moments,
    check_samples,
)
from lth_runner.problem.data.splits import Split, as_split, hold_out, keep_subset, read_batches
from lth_runner.problem.data.stream import Stream
from lth_runner.values import tree
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.seeds import stream as generator
from lth_runner.values.tree import Batch, Tree

SPLITS = ("train", "val", "test")
FLOAT_LIMIT = 2**30  # bytes: larger float copies of uint8 images are normalised batch by batch


@dataclass(frozen=True, eq=False, kw_only=True)
class Data:
    """A table held in memory: inputs and targets, each a tensor or tensors by name.

    A batch is ``(inputs * unit - mean) / std`` per channel, with unit 1/255 for uint8 inputs and 1
    for float ones. ``normalised`` says that the inputs already went through it (see ``to``).
    ``class_names`` are names of the classes by number, where there are such.
    Raises UserError for splits that do not fit together, non-finite inputs and impossible labels.
    """

    train: Split
    val: Split
    test: Split
    num_classes: int | None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    augment: Augmentation = field(default_factory=FlipCrop)
    name: str = "tensors"
    normalised: bool = False
    nominal_train: int | None = None  # training samples before ``limited``; None: all are here
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for split in SPLITS:
            where = f"{self.name}: {split}"
            check_samples(
                getattr(self, split), self.train, self.num_classes, where, empty=split == "val"
            )
            if not self.normalised:
                check_finite(getattr(self, split), where)
        plain = isinstance(self.train[0], Tensor)
        check_moments(self.mean, self.std, self.shape[0] if plain else 1, self.name)
        if self.augment:
            check_augmented(self.augment, self.train, self.name)
        if self.augment and self.normalised:
            raise UserError(
                f"{self.name}: augmentation comes before normalisation: set it before .to(device)"
            )

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
        augment: Augmentation | None = None,
        num_classes: int | None = None,
        name: str = "tensors",
    ) -> Data:
        """Makes data of (inputs, targets) pairs of tensors or arrays, or mappings of them by name.

        Without ``val``, ``validation`` samples (a count, or a fraction below 1; 0 for none) are
        held out of ``train`` by ``split_seed``. ``num_classes`` defaults to the largest target + 1
        where targets are whole numbers; other targets have no classes.
        """
        kept, tested = as_split(train, f"{name}: train"), as_split(test, f"{name}: test")
        if not tree.length(kept[1]):
            raise UserError(f"{name}: train is empty: it needs at least one sample")
        if val is None:
            kept, held = hold_out(kept, validation, seed=split_seed)
        else:
            held = as_split(val, f"{name}: val")
        if num_classes is None:
            num_classes = _num_classes((kept, held, tested))
        return cls(
            train=kept,
            val=held,
            test=tested,
            num_classes=num_classes,
            mean=tuple(mean),
            std=tuple(std),
            augment=augment or FlipCrop(),
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
        """Makes data of iterables of (inputs, targets) batches, each read once.

        Options as ``from_tensors``.
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
        inputs = self.train[0]
        if not isinstance(inputs, Tensor):
            raise TypeError(f"inputs by name have no one shape: {tree.describe(inputs)}")
        return tuple(inputs.shape[1:])

    @property
    def num_train(self) -> int:
        """The number of training samples."""
        return tree.length(self.train[1])

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return tree.tensors(self.train[0])[0].device

    @cached_property
    def fingerprint(self) -> str:
        """The SHA-256 of the raw tensors, mean, std and augmentation, the same on every device."""
        moments = [self.mean, self.std, self.normalised, self.num_classes]
        nominal = [self.nominal_train] if self.nominal_train not in (None, self.num_train) else []
        facts = [*moments, self.augment.identity, *nominal]
        digest = hashlib.sha256(repr(facts).encode())
        for part in (*self.train, *self.val, *self.test):
            digest.update(repr(sorted(part) if isinstance(part, Mapping) else []).encode())
        parts = [
            value for part in (*self.train, *self.val, *self.test) for value in tree.tensors(part)
        ]
        for tensor in parts:
            digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
            array = tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
            digest.update(array.data)
        return digest.hexdigest()

    def limited(self, max_samples: int | None) -> Data:
        """Keeps at most ``max_samples`` of each split, drawn by a fixed seed; all for None."""
        if max_samples is None:
            return self
        if isinstance(max_samples, bool) or not isinstance(max_samples, int) or max_samples < 1:
            raise UserError(f"max_samples={max_samples!r}: give a whole number above 0, or null")

        def cut(split: Split) -> Split:  # drawn, and not the first ones: folders come by class
            few = tree.length(split[1]) > max_samples
            return keep_subset(split, max_samples, seed=0) if few else split

        return replace(
            self,
            train=cut(self.train),
            val=cut(self.val),
            test=cut(self.test),
            nominal_train=self.nominal_train or self.num_train,
        )

    def epoch(self, batch_size: int) -> int:
        """Counts the steps of an epoch in a duration: those of the whole training set."""
        return (self.nominal_train or self.num_train) // batch_size

    def to(self, device: torch.device | str) -> Data:
        """Returns the data on a device, normalised once and for all where memory allows it.

        The batches hold the same numbers either way, and the fingerprint is that of the raw data.
        """
        splits = (self.train, self.val, self.test)
        num_values = sum(value.numel() for inputs, _ in splits for value in tree.tensors(inputs))
        at_once = self._is_numeric and not self.normalised and not self.augment
        raw = [_moved(split, device) for split in splits]
        moved = replace(self, train=raw[0], val=raw[1], test=raw[2])
        if at_once and num_values * 4 < FLOAT_LIMIT:
            ready = [(moved._ready(inputs), targets) for inputs, targets in raw]
            moved = replace(self, train=ready[0], val=ready[1], test=ready[2], normalised=True)
        moved.__dict__["fingerprint"] = self.fingerprint  # where cached_property looks
        return moved

    def unaugmented(self) -> Data:
        """Returns the same samples as they are."""
        return replace(self, augment=FlipCrop()) if self.augment else self

    def stream(self, batch_size: int, seed: int, order: int = 0) -> Stream:
        """Returns training batches by step; ``order`` tells apart the orders of one seed."""
        return Stream(
            *self.train,
            batch_size=batch_size,
            seed=seed,
            order=order,
            augment=self.augment,
            normalise=self._normalise if self._to_normalise else None,
        )

    def batches(self, split: str, size: int) -> Iterator[Batch]:
        """Goes through a split in order: normalised, never augmented, the last batch short."""
        if split not in SPLITS:
            raise UserError(f"no split is called {split!r}: {nearest(split, SPLITS)}")
        if size < 1:
            raise UserError(f"evaluation batch size is {size}: give at least 1")
        inputs, targets = getattr(self, split)
        pieces = zip(tree.split(inputs, size), tree.split(targets, size), strict=True)
        yield from ((self._ready(piece), wanted) for piece, wanted in pieces)

    def sample(self, num: int, seed: int) -> Batch:
        """Draws ``num`` training samples without replacement, normalised and not augmented."""
        if not 1 <= num <= self.num_train:
            raise UserError(
                f"cannot draw {num} of {self.num_train} training samples:"
                f" accepted 1 to {self.num_train}"
            )
        permutation = torch.randperm(self.num_train, generator=generator(seed, "sample"))
        index = permutation[:num].to(self.device)
        inputs, targets = self.train
        return self._ready(tree.rows(inputs, index)), tree.rows(targets, index)

    @property
    def _is_numeric(self) -> bool:
        """Whether inputs are images or numbers, which are normalised, and no tokens or names."""
        return isinstance(self.train[0], Tensor) and self.train[0].dtype != torch.int64

    @property
    def _to_normalise(self) -> bool:
        return self._is_numeric and not self.normalised

    def _ready(self, inputs: Tree) -> Tree:
        return tree.each(self._normalise, inputs) if self._to_normalise else inputs

    def _normalise(self, inputs: Tensor) -> Tensor:
        # two roundings (subtract, then multiply), on whole data and on a batch alike: equal bits
        shift, scale = self._affine
        return (inputs - shift).mul_(scale)

    @cached_property
    def _affine(self) -> tuple[Tensor, Tensor]:
        unit = 255.0 if tree.tensors(self.train[0])[0].dtype == torch.uint8 else 1.0
        shift = torch.tensor([unit * m for m in self.mean])
        scale = torch.tensor([1.0 / (unit * s) for s in self.std])
        if len(self.mean) > 1:
            view = (-1, *[1] * (len(self.shape) - 1))
            shift, scale = shift.view(view), scale.view(view)
        return shift.to(self.device), scale.to(self.device)


def _moved(split: Split, device: torch.device | str) -> Split:
    inputs, targets = (tree.each(lambda value: value.to(device), part) for part in split)
    return inputs, targets


def _num_classes(splits: Sequence[Split]) -> int | None:
    """Counts classes by the largest target, where targets are whole numbers."""
    found = []
    for _, targets in splits:
        if not isinstance(targets, Tensor) or targets.dtype != torch.int64:
            return None
        if targets.numel():
            found.append(int(targets.max()) + 1)
    return max(found)
