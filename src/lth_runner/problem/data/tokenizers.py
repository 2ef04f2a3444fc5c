"""Turning texts into numbers: words, characters, bytes, and what any tokenizer answers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, runtime_checkable

from lth_runner.values.errors import UserError

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
class Special:
    """The token numbers that stand for no word: padding, the mask, and all of them together."""

    padding: int = PADDING
    mask: int | None = MASK
    all: frozenset[int] = frozenset(range(NUM_SPECIAL))
    before: tuple[int, ...] = ()  # what a model expects to stand around a text, as [CLS] and [SEP]
    after: tuple[int, ...] = ()


@runtime_checkable
class Marked(Protocol):
    """A tokenizer, or an ``Encode``, that says itself which of its tokens are special."""

    @property
    def special(self) -> Special:
        """Its special tokens."""


@runtime_checkable
class Knowing(Protocol):
    """An ``Encode`` that knows its special tokens and, of a pair, which text a token is of."""

    @property
    def special(self) -> Special:
        """Its special tokens."""

    @property
    def num_tokens(self) -> int:
        """How many token numbers there are."""

    def __call__(self, parts: Sequence[str], length: int | None) -> list[int]: ...

    def plain(self, text: str) -> list[int]:
        """Gives the numbers of a long text, with no special token added."""

    def with_segments(
        self, parts: Sequence[str], length: int | None
    ) -> tuple[list[int], list[int]]:
        """Gives the numbers, and for each 0 or 1, as a model's ``token_type_ids`` take them."""


def special_of(found: Tokenizer | Encode) -> Special:
    """Returns the special tokens, those of our own tokenizers where nothing says others."""
    return found.special if isinstance(found, Marked) else Special()


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
