"""Tokenizers of the library tokenizers, read from files and never from a network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lth_runner.problem.data.tokenizers import Special
from lth_runner.values.errors import UserError
from lth_runner.values.files import read_regular
from lth_runner.values.home import from_home
from lth_runner.values.json_files import loaded

FILE = "tokenizer.json"
PIECE = 2**20  # characters of a long text that are encoded at once, up to the end of a line
PADDINGS = ("[PAD]", "<pad>", "<|padding|>", "<|endoftext|>")
MASKS = ("[MASK]", "<mask>")


@dataclass(frozen=True)
class TokenizerFile:
    """Reads a tokenizer.json of the library tokenizers, with the special tokens that it adds.

    ``path`` is that file, a folder that holds it, or the name of a model in the local cache of
    Hugging Face. Needs the library: ``pip install 'lth-runner[text]'``. Raises UserError where it
    is missing, or the file is none.
    """

    path: str = field(compare=False)
    content: str = field(init=False, default="")  # SHA-256: all that tells one file from another

    def __post_init__(self) -> None:
        content = read_regular_or_refuse(self.path)
        object.__setattr__(self, "content", hashlib.sha256(content).hexdigest())

    def encoder(self, texts: Iterable[str]) -> FileEncoder:
        """Reads the file; there is nothing to be learned from the texts."""
        try:
            from tokenizers import Tokenizer as Library
        except ImportError as error:
            raise UserError(
                f"dataset.tokenizer.path={self.path} needs the library tokenizers ({error}): pip "
                "install 'lth-runner[text]', or choose the tokenizer Words, Characters or Bytes"
            ) from error
        content = read_regular_or_refuse(self.path)
        try:
            found = Library.from_str(content.decode())
        except Exception as error:  # the library raises nothing narrower
            raise UserError(f"dataset.tokenizer.path={self.path} is no {FILE}: {error}") from error
        special = _special(found)
        return FileEncoder(found, special, num_tokens(found))

    @property
    def special(self) -> Special:
        """The special tokens of the file."""
        return self.encoder(()).special


@dataclass(frozen=True)
class FileEncoder:
    """Encodes texts as a tokenizer of the library does; see ``Knowing``."""

    library: Any
    special: Special
    num_tokens: int

    def __call__(self, parts: Sequence[str], length: int | None) -> list[int]:
        numbers: list[int] = self._encoded(parts, length).ids
        return numbers

    def with_segments(
        self, parts: Sequence[str], length: int | None
    ) -> tuple[list[int], list[int]]:
        found = self._encoded(parts, length)
        return found.ids, found.type_ids

    def of_words(
        self, words: Sequence[str], length: int | None
    ) -> tuple[list[int], list[int | None]]:
        """Encodes a text that is cut into words.

        Beside each token the number of the word that it is a piece of, None of special tokens.
        """
        self._cut(length)
        whole = [f"{self._space}{word}" for word in words]
        found = self.library.encode(whole, is_pretokenized=True)
        return found.ids, found.word_ids

    @cached_property
    def _space(self) -> str:
        """What a word begins with, as within a text: a space, where bytes are merged with it."""
        if self.library.pre_tokenizer is None:
            return ""
        found = loaded(self.library.pre_tokenizer.__getstate__().decode())
        steps = [found, *found.get("pretokenizers", [])]
        lacks = any(one["type"] == "ByteLevel" and not one["add_prefix_space"] for one in steps)
        return " " if lacks else ""

    def plain(self, text: str) -> list[int]:
        self.library.no_truncation()
        found: list[int] = []
        for piece in _pieces(text):
            found += self.library.encode(piece, add_special_tokens=False).ids
        return found

    def _encoded(self, parts: Sequence[str], length: int | None) -> Any:
        self._cut(length)
        return self.library.encode(parts[0], parts[1] if parts[1:] else None)

    def _cut(self, length: int | None) -> None:
        self.library.no_truncation()
        if length is not None:  # of two texts the longer is cut first
            try:
                self.library.enable_truncation(length)
            except Exception as error:  # no room for the special tokens
                raise UserError(f"dataset.length={length} is too short: {error}") from error


def read_regular_or_refuse(path: str) -> bytes:
    """Reads a tokenizer's file, wherever ``path`` says that it is; raises UserError."""
    found = _located(path)
    try:
        return read_regular(found)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> UserError:
    """Makes one message of a file that is not there, and where it comes from."""
    folder = from_home(path)
    lacks = folder.is_dir() and not (folder / FILE).exists()
    why = f"is a folder without a {FILE}" if lacks else f"cannot be read: {error.strerror}"
    if lacks and (files := sorted(one.name for one in folder.glob("*.gguf"))):
        return UserError(
            f"dataset.tokenizer.path={path} {why}. That of its GGUF file is written there by "
            f"transformers: AutoTokenizer.from_pretrained({path!r}, gguf_file={files[0]!r})"
            f".save_pretrained({path!r})"
        )
    return UserError(
        f"dataset.tokenizer.path={path} {why}. It is a {FILE}, or a folder that holds one; a "
        "model's own is in the model's folder. Nothing is fetched: for a machine without internet "
        f"copy the file, with hf download NAME {FILE} --local-dir FOLDER where there "
        "is internet"
    )


def _located(path: str) -> Path:
    """Finds the file of a folder, or that of a model's name in the local cache."""
    given = from_home(path)
    if given.is_dir():
        return given / FILE
    if given.exists() or path.count("/") > 1 or given.suffix == ".json":
        return given
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return given
    try:
        cached = try_to_load_from_cache(path, FILE)  # looks at files alone
    except ValueError:  # not what a hub would call a model
        return given
    return Path(cached) if isinstance(cached, str) else given


def num_tokens(library: Any) -> int:
    """Counts a tokenizer's numbers, added tokens counted in: one more than the largest."""
    return max(library.get_vocab(with_added_tokens=True).values(), default=-1) + 1


def _pieces(text: str) -> Iterator[str]:
    begin = 0
    while begin < len(text):
        end = text.rfind("\n", begin + 1, begin + PIECE) + 1 or begin + PIECE
        yield text[begin:end]
        begin = end


def _special(library: Any) -> Special:
    """Looks up what the file says is padding, a mask, and no word."""
    added = library.get_added_tokens_decoder()
    own = {number for number, token in added.items() if token.special}
    named = [library.token_to_id(token) for token in PADDINGS]
    own |= {number for number in named[:2] if number is not None}
    padding = (library.padding or {}).get("pad_id")
    if padding is None:
        padding = next((number for number in named if number is not None), 0)
    masks = [library.token_to_id(token) for token in MASKS]
    mask = next((number for number in masks if number is not None), None)
    known = frozenset(own | ({mask} if mask is not None else set()))
    library.no_padding()  # a file may ask for both
    library.no_truncation()
    whole = library.encode("a")
    inner = [place for place, mark in enumerate(whole.special_tokens_mask) if not mark]
    if not inner:
        return Special(padding, mask, known)
    before, after = whole.ids[: inner[0]], whole.ids[inner[-1] + 1 :]
    return Special(padding, mask, known | {*before, *after}, tuple(before), tuple(after))
