"""Samples that are made when they are asked for, of files, tokens or a user's own data set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy
import torch
from torch import Tensor

from lth_runner.problem.data.global_streams import all_seeded
from lth_runner.values import identity, tree
from lth_runner.values.errors import UserError
from lth_runner.values.tree import Batch, Tree

CHUNK = 2**24  # bytes, or values, that are hashed at once


class Samples(Protocol):
    """One split whose samples are taken by their numbers."""

    @property
    def fingerprint(self) -> str:
        """What tells contents apart, wherever they lie."""

    def __len__(self) -> int:
        """How many samples there are."""

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        """Makes a batch, a pure function: the same numbers and draws give the same batch.

        So a step can be asked for again, ahead of its time, or by one rank in parts. What is
        random about a sample (augmentation, corruption) is drawn from ``draw``.
        """


@dataclass(frozen=True, eq=False)
class Subset:
    """Some of the samples of a split, by their numbers."""

    samples: Samples
    index: Tensor

    @cached_property
    def fingerprint(self) -> str:
        numbers = hashlib.sha256(self.index.numpy().tobytes()).hexdigest()
        return identity.digest([self.samples.fingerprint, numbers])

    def __len__(self) -> int:
        return len(self.index)

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        return self.samples.take(self.index[index], draw)


@dataclass(frozen=True)
class Tokens:
    """Windows of ``length`` tokens of a binary file, read from the disk when they are asked for.

    The file holds whole numbers of ``dtype`` one after the other; window i begins at token
    ``begin`` + i * ``length``, and the targets are the tokens that follow each, so that a file of n
    tokens has (n - 1) // length windows. Raises UserError for a file that is none, too short for
    one window, or has token numbers of ``vocabulary`` and above.
    """

    path: str
    length: int
    vocabulary: int
    begin: int = 0
    end: int | None = None
    dtype: str = "uint16"

    def __post_init__(self) -> None:
        if not len(self):
            raise UserError(
                f"{self.path} holds {len(self._tokens)} tokens here: windows of dataset.length="
                f"{self.length} need at least {self.length + 1}"
            )
        largest = max(
            int(self._tokens[at : at + CHUNK].max()) for at in range(0, len(self._tokens), CHUNK)
        )
        if largest >= self.vocabulary:
            raise UserError(
                f"{self.path} holds token {largest}, beyond the vocabulary of {self.vocabulary}: "
                "give the tokenizer's own vocabulary, or another file"
            )

    @cached_property
    def _tokens(self) -> Any:
        try:
            whole = numpy.memmap(self.path, dtype=self.dtype, mode="r")
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{self.path} is no file of {self.dtype} tokens: {error}") from error
        return whole[self.begin : self.end]

    @cached_property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.dtype}:{self.length}:{self.vocabulary}".encode())
        for at in range(0, len(self._tokens), CHUNK):
            digest.update(numpy.ascontiguousarray(self._tokens[at : at + CHUNK]).data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return max(0, (len(self._tokens) - 1) // self.length)

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        places = index[:, None] * self.length + torch.arange(self.length + 1)
        found = torch.from_numpy(self._tokens[places.numpy()].astype(numpy.int64))
        return found[:, :-1].contiguous(), found[:, 1:].contiguous()


@dataclass(frozen=True)
class Masked:
    """Tokens corrupted as BERT's are, drawn anew at every step.

    Of the tokens that stand for words, numbers from ``special`` up, ``share`` are chosen: 80 % of
    them become ``mask``, 10 % another token, 10 % stay. Targets are the chosen tokens, -100
    elsewhere. Inputs are the tokens, or the tokens under ``input_ids`` beside others by name.
    Devlin et al., NAACL 2019, arXiv 1810.04805. Raises UserError for a share outside (0, 1].
    """

    samples: Samples
    mask: int
    vocabulary: int
    special: int = 5
    share: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"dataset.share={self.share} is outside (0, 1]: 0.15 masks 15 %")

    @property
    def fingerprint(self) -> str:
        own = [self.samples.fingerprint, self.mask, self.vocabulary, self.special, self.share]
        return identity.digest(own)

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        inputs, _ = self.samples.take(index, draw)
        tokens = inputs if isinstance(inputs, Tensor) else inputs["input_ids"]
        chance = torch.rand(tokens.shape, generator=draw)
        other = torch.randint(self.special, self.vocabulary, tokens.shape, generator=draw)
        chosen = (tokens >= self.special) & (chance < self.share)
        seen = torch.where(chosen & (chance < 0.8 * self.share), self.mask, tokens)
        seen = torch.where(chosen & (chance >= 0.9 * self.share), other, seen)
        targets = torch.where(chosen, tokens, -100)
        return (seen if isinstance(inputs, Tensor) else {**inputs, "input_ids": seen}), targets


@dataclass(frozen=True, eq=False)
class MapStyle:
    """A ``torch.utils.data.Dataset`` with a length, its samples fetched one by one when asked for.

    Each item is a pair (inputs, targets) of tensors, arrays or numbers; inputs may be a mapping by
    name. What is random about it may come from torch's, numpy's and Python's global streams: they
    are seeded for every sample and put back. ``given``: a name of the contents, in place of a hash
    over all samples, for sets that are dear to read. Raises UserError for a set without a length,
    for items that are no such pairs, and for ones that differ under one seed.
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
        first, again = (self.take(torch.tensor([0]), _generator(0)) for _ in range(2))
        if not _equal(first, again):
            raise UserError(
                f"{self.name}: sample 0 differs from one look to the next under one seed of torch, "
                "numpy and random: a killed run could not go on; draw its random numbers from one "
                "of these"
            )

    @cached_property
    def fingerprint(self) -> str:
        if self.given is not None:
            return identity.digest(["given", self.given, len(self)])
        digest = hashlib.sha256()
        for number in range(len(self)):
            for part in self.take(torch.tensor([number]), _generator(0)):
                for value in tree.tensors(part):
                    digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
                    digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.dataset)

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        from torch.utils.data import default_collate

        seeds = torch.randint(2**31, (len(index),), generator=draw).tolist()
        items = []
        for number, seed in zip(index.tolist(), seeds, strict=True):
            with all_seeded(seed):
                items.append(self._pair(number))
        try:
            inputs, targets = default_collate(items)
        except (RuntimeError, TypeError) as error:
            raise UserError(
                f"{self.name}: samples {index.tolist()[:3]}... do not stack to a batch: "
                f"{str(error).strip().splitlines()[0]}"
            ) from error
        return _floats(inputs), _floats(targets)

    def _pair(self, number: int) -> tuple[Any, Any]:
        item = self.dataset[number]
        if not isinstance(item, Sequence) or len(item) != 2:
            raise UserError(
                f"{self.name}: sample {number} is a {type(item).__name__}: give a pair (inputs, "
                "targets)"
            )
        return item[0], item[1]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _floats(value: Tree) -> Tree:
    """Turns float64, which numbers of Python and numpy come as, into torch's default type."""
    double = torch.float64
    return tree.each(lambda v: v.to(torch.get_default_dtype()) if v.dtype == double else v, value)


def _equal(one: Batch, other: Batch) -> bool:
    pairs = zip(one, other, strict=True)
    return all(
        torch.equal(a, b) or bool(a.isnan().any())
        for x, y in pairs
        for a, b in zip(tree.tensors(x), tree.tensors(y), strict=True)
    )
