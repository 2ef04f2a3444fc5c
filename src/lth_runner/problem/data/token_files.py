"""Texts that have been turned into tokens before, in binary files that are mapped into memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy
import torch
from torch import Tensor

from lth_runner.problem.data.picture_files import stamp_of
from lth_runner.problem.data.sampled import EVALUATED, SampledData
from lth_runner.problem.data.samples import TokenFacts, Tokens
from lth_runner.problem.data.token_table import cached_table
from lth_runner.values.errors import UserError
from lth_runner.values.home import from_home

FORMAT = 1  # part of the cached file's name: raise it when other facts are kept
SEEN, FEWEST = 4096, 16  # numbers of a file that are looked at for its width, and how many tell
LOGITS = 2**26  # of one batch in evaluation at most: a number for each token of the vocabulary


def token_files(
    *,
    root: str,
    length: int,
    vocabulary: int,
    train: str = "train.bin",
    val: str | None = "val.bin",
    test: str = "test.bin",
    dtype: Literal["uint8", "uint16", "uint32"] = "uint16",
    validation: float = 0.1,
    split_seed: int = 0,
    cache: str | None = None,
    name: str = "token_files",
) -> SampledData:
    """Reads windows of ``length`` tokens from files of whole numbers, one after the other.

    Targets are the tokens that follow each. Nothing of a file is read before a batch asks for it,
    but for one pass that hashes it, whose outcome is kept until the file changes. Without ``val``,
    ``validation`` windows are held out of train. Raises UserError for a file that is missing, too
    short, or holds other tokens.
    """
    for key, value in (("length", length), ("vocabulary", vocabulary)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise UserError(f"dataset.{key}={value!r} must be a whole number above 0")
    if dtype not in ("uint8", "uint16", "uint32"):
        raise UserError(f"dataset.dtype={dtype!r}: accepted: uint8, uint16, uint32")
    folder = from_home(root)
    named = {"train": train, "test": test} | ({} if val is None else {"val": val})
    splits = {
        split: Tokens(str(folder / file), length, vocabulary, dtype=dtype,
                      known=_facts(folder, file, split, dtype, cache))
        for split, file in named.items()
    }  # fmt: skip
    evaluated = max(1, min(EVALUATED, LOGITS // (length * vocabulary)))
    if val is None:
        found = SampledData.held_out(
            splits["train"], splits["test"], validation=validation, split_seed=split_seed
        )
        held = {"train": found.train, "val": found.val, "test": found.test}
    else:
        held = dict(splits)
    assert held["train"] is not None
    assert held["test"] is not None
    return SampledData(
        train=held["train"],
        val=held["val"],
        test=held["test"],
        num_classes=vocabulary,
        name=name,
        evaluated=evaluated,
    )


def _facts(folder: Path, file: str, split: str, dtype: str, cache: str | None) -> TokenFacts:
    """Reads a file's tokens once, or what was kept of it."""
    path = folder / file
    if not path.is_file():
        raise UserError(
            f"there is no file {path} (dataset.{split}): give files of {dtype} token numbers, as "
            "numpy.asarray(tokens, dtype).tofile(path) writes them"
        )
    if not path.stat().st_size:
        raise UserError(f"{path} is empty: it needs at least dataset.length + 1 tokens")
    if path.stat().st_size % numpy.dtype(dtype).itemsize:
        raise UserError(
            f"{path} has {path.stat().st_size:,} bytes, which are no whole number of {dtype} "
            "tokens: it was cut, or dataset.dtype is another"
        )

    numbers = numpy.memmap(path, dtype=dtype, mode="r")
    some = numbers[: 2 * SEEN]
    if len(some) >= FEWEST and some[::2].any() and not some[1::2].any():
        raise UserError(
            f"every second number of {path} is 0, as where wider ones (int32, numpy's own int64) "
            f"are read as {dtype}: write it as numpy.asarray(tokens, {dtype!r}).tofile(path) does, "
            "or set dataset.dtype=uint32 for files of four bytes a token"
        )

    def make() -> Mapping[str, Tensor]:
        found = TokenFacts.of(numbers)
        content = torch.frombuffer(bytearray(bytes.fromhex(found.content)), dtype=torch.uint8)
        return {"largest": torch.tensor(found.largest), "content": content}

    made_of = ["tokens", FORMAT, str(path.resolve()), dtype, list(stamp_of(folder, file))]
    table = cached_table(made_of, make, cache, kind="tokens", told=f"data     reading {path} once")
    return TokenFacts(int(table["largest"]), table["content"].numpy().tobytes().hex())
