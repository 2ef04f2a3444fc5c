"""Turning texts into numbers: words, characters, bytes, or a tokenizer from a file."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from lth_runner.values.errors import UserError
from lth_runner.values.files import read_regular

# what the first numbers of our own tokenizers stand for
PADDING, UNKNOWN, MASK, SEPARATOR = range(4)
NUM_SPECIAL = 4

Encode = Callable[[Sequence[str], int | None], list[int]]


class Tokenizer(Protocol):
    """Learns from the training texts how one or two texts become at most so many numbers.

    ``encoder`` answers with a function of the texts that belong together (a sentence, or a pair of
    them) and of how many tokens there may be, None for any number. Implement it as a frozen
    dataclass.
    """

    def encoder(self, texts: Iterable[str]) -> Encode: ...


@dataclass(frozen=True)
class Words:
    """Numbers the most frequent words of the training texts, ties in the order of the alphabet.

    A word is a run of letters, digits and _, or another sign that is no space. Of ``vocabulary``
    numbers the first four are <padding>, <unknown>, <mask> and <separator> (between two texts);
    ``lower``: capitals are taken for small letters. Raises UserError for a vocabulary of no words.
    """

    vocabulary: int
    lower: bool = True

    def __post_init__(self) -> None:
        _check_vocabulary(self.vocabulary)

    def encoder(self, texts: Iterable[str]) -> Encode:
        return _most_frequent(self._split, texts, self.vocabulary)

    def _split(self, text: str) -> list[str]:
        return re.findall(r"\w+|[^\w\s]", text.lower() if self.lower else text)


@dataclass(frozen=True)
class Characters:
    """Numbers the most frequent characters of the training texts as ``Words`` numbers words."""

    vocabulary: int
    lower: bool = False

    def __post_init__(self) -> None:
        _check_vocabulary(self.vocabulary)

    def encoder(self, texts: Iterable[str]) -> Encode:
        return _most_frequent(self._split, texts, self.vocabulary)

    def _split(self, text: str) -> list[str]:
        return list(text.lower() if self.lower else text)


@dataclass(frozen=True)
class Bytes:
    """Numbers the 256 bytes of UTF-8 from 4 on: 260 numbers, and no character is unknown."""

    def encoder(self, texts: Iterable[str]) -> Encode:
        return _Numbered(str.encode, {byte: byte + NUM_SPECIAL for byte in range(256)})


@dataclass(frozen=True)
class TokenizerFile:
    """Reads a tokenizer.json of the library tokenizers, with the special tokens that it adds.

    Needs that library: ``pip install 'lth-runner[text]'``. Raises UserError where it is missing, or
    the file is none.
    """

    path: str = field(compare=False)
    content: str = field(init=False, default="")  # SHA-256: all that tells one file from another

    def __post_init__(self) -> None:
        try:
            content = read_regular(Path(self.path).expanduser())
        except OSError as error:
            raise UserError(
                f"dataset.tokenizer.path={self.path} cannot be read: {error.strerror}"
            ) from error
        object.__setattr__(self, "content", hashlib.sha256(content).hexdigest())

    def encoder(self, texts: Iterable[str]) -> Encode:
        try:
            from tokenizers import Tokenizer as Library
        except ImportError as error:
            raise UserError(
                f"dataset.tokenizer.path={self.path} needs the library tokenizers ({error}): pip "
                "install 'lth-runner[text]', or choose the tokenizer Words, Characters or Bytes"
            ) from error
        try:
            found = Library.from_file(str(Path(self.path).expanduser()))
        except Exception as error:  # the library raises nothing narrower
            raise UserError(
                f"dataset.tokenizer.path={self.path} is no tokenizer.json: {error}"
            ) from error
        found.no_padding()

        def encode(parts: Sequence[str], length: int | None) -> list[int]:
            found.no_truncation()
            if length is not None:
                found.enable_truncation(length)
            numbers: list[int] = found.encode(parts[0], parts[1] if parts[1:] else None).ids
            return numbers

        return encode


@dataclass(frozen=True)
class _Numbered:
    """Looks up the number of each piece of a text."""

    split: Callable[[str], Iterable[Any]]
    numbers: Mapping[Any, int]

    def __call__(self, parts: Sequence[str], length: int | None) -> list[int]:
        found = [[self.numbers.get(p, UNKNOWN) for p in self.split(part)] for part in parts]
        if len(found) == 1:
            return found[0][:length]
        first, second = found
        if length is not None:  # the longer one is cut, both where both are longer than half
            room = length - 1
            second = second[: max(room - len(first), room // 2)]
            first = first[: room - len(second)]
        return [*first, SEPARATOR, *second]


def _most_frequent(
    split: Callable[[str], list[str]], texts: Iterable[str], vocabulary: int
) -> _Numbered:
    counts = Counter(chain.from_iterable(map(split, texts)))
    known = sorted(counts, key=lambda piece: (-counts[piece], piece))[: vocabulary - NUM_SPECIAL]
    return _Numbered(split, {piece: number for number, piece in enumerate(known, NUM_SPECIAL)})


def _check_vocabulary(vocabulary: int) -> None:
    if vocabulary <= NUM_SPECIAL:
        raise UserError(
            f"dataset.vocabulary={vocabulary} leaves no number for a word: {NUM_SPECIAL} are for "
            "padding, unknown words, masks and separators; give some thousand for words"
        )
