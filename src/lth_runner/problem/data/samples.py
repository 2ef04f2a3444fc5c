"""Samples that are made when they are asked for, of files, tokens or a user's own data set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy
import torch
from torch import Tensor

from lth_runner.values import identity
from lth_runner.values.errors import UserError
from lth_runner.values.files import open_regular
from lth_runner.values.ignored import IGNORED
from lth_runner.values.tree import Batch

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
class TokenFacts:
    """What is known of many tokens once all have been read: the largest, and a hash of them."""

    largest: int
    content: str

    @classmethod
    def of(cls, tokens: Any, read_as: str = "") -> TokenFacts:
        """Reads tokens from the first to the last; ``read_as`` is hashed before them."""
        digest, largest = hashlib.sha256(f"{tokens.dtype}:{read_as}".encode()), 0
        for at in range(0, len(tokens), CHUNK):
            piece = numpy.ascontiguousarray(tokens[at : at + CHUNK])
            digest.update(piece.data)
            largest = max(largest, int(piece.max()))
        return cls(largest, digest.hexdigest())


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
    known: TokenFacts | None = None  # of a large file, which are not read off it each time

    def __post_init__(self) -> None:
        if not len(self):
            raise UserError(
                f"{self.path} holds {len(self._tokens)} tokens here: windows of dataset.length="
                f"{self.length} need at least {self.length + 1}"
            )
        largest = self._facts.largest
        if largest >= self.vocabulary:
            raise UserError(
                f"{self.path} holds token {largest}, beyond the vocabulary of {self.vocabulary}: "
                "give the tokenizer's own vocabulary, or another file"
            )

    @cached_property
    def _tokens(self) -> Any:
        try:
            open_regular(Path(self.path)).close()  # a named pipe would wait for a writer
            whole = numpy.memmap(self.path, dtype=self.dtype, mode="r")
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{self.path} is no file of {self.dtype} tokens: {error}") from error
        return whole[self.begin : self.end]

    @cached_property
    def _facts(self) -> TokenFacts:
        return self.known or TokenFacts.of(self._tokens, f"{self.length}:{self.vocabulary}")

    @cached_property
    def fingerprint(self) -> str:
        if self.known is None:
            return self._facts.content
        return identity.digest([self.known.content, self.dtype, self.length, self.vocabulary])

    def __len__(self) -> int:
        return max(0, (len(self._tokens) - 1) // self.length)

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        places = index[:, None] * self.length + torch.arange(self.length + 1)
        found = torch.from_numpy(self._tokens[places.numpy()].astype(numpy.int64))
        return found[:, :-1].contiguous(), found[:, 1:].contiguous()


@dataclass(frozen=True)
class Framed:
    """Windows of tokens between those that a model expects around a text, as [CLS] and [SEP].

    They are inputs alone: which tokens are targets is up to what masks them (``Masked``).
    """

    samples: Samples
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def fingerprint(self) -> str:
        return identity.digest([self.samples.fingerprint, self.before, self.after])

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        inputs, _ = self.samples.take(index, draw)
        assert isinstance(inputs, Tensor)
        sides = [torch.tensor(side, dtype=inputs.dtype).expand(len(inputs), -1)
                 for side in (self.before, self.after)]  # fmt: skip
        framed = torch.cat([sides[0], inputs, sides[1]], 1)
        return framed, framed


@dataclass(frozen=True)
class Masked:
    """Tokens corrupted as BERT's are, drawn anew at every step.

    Of the tokens that stand for words, numbers from ``special`` up or all but those in it,
    ``share`` are chosen: 80 % of them become ``mask``, 10 % another such token, 10 % stay. Targets
    are the chosen tokens, -100 elsewhere. Inputs are the tokens, or the tokens under
    ``input_ids`` beside others by name. Devlin et al., NAACL 2019, arXiv 1810.04805. Raises
    UserError for a share outside (0, 1].
    """

    samples: Samples
    mask: int
    vocabulary: int
    special: int | frozenset[int] = 5
    share: float = 0.15

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"dataset.share={self.share} is outside (0, 1]: 0.15 masks 15 %")

    @property
    def fingerprint(self) -> str:
        special = self.special if isinstance(self.special, int) else sorted(self.special)
        own = [self.samples.fingerprint, self.mask, self.vocabulary, special, self.share]
        return identity.digest(own)

    @cached_property
    def _words(self) -> Tensor:
        """Which tokens stand for words, by their numbers."""
        numbers = torch.arange(self.vocabulary)
        if isinstance(self.special, int):
            return numbers >= self.special
        return ~torch.isin(numbers, torch.tensor(sorted(self.special), dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, index: Tensor, draw: torch.Generator) -> Batch:
        inputs, _ = self.samples.take(index, draw)
        tokens = inputs if isinstance(inputs, Tensor) else inputs["input_ids"]
        chance = torch.rand(tokens.shape, generator=draw)
        words = self._words.nonzero().squeeze(1)
        other = words[torch.randint(len(words), tokens.shape, generator=draw)]
        chosen = self._words[tokens] & (chance < self.share)
        seen = torch.where(chosen & (chance < 0.8 * self.share), self.mask, tokens)
        seen = torch.where(chosen & (chance >= 0.9 * self.share), other, seen)
        targets = torch.where(chosen, tokens, IGNORED)
        return (seen if isinstance(inputs, Tensor) else {**inputs, "input_ids": seen}), targets
