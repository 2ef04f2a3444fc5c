"""Sentences whose words are tagged, of files in columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from lth_runner.problem.data.columns import Columns, TaggedSentence
from lth_runner.problem.data.sampled import SampledData
from lth_runner.problem.data.sentences import (
    check_length,
    check_vocabulary,
    joined,
    parted,
    some_of,
)
from lth_runner.problem.data.tags import Tags
from lth_runner.problem.data.text import contents
from lth_runner.problem.data.token_table import Table, cached_table, names_of, table_of
from lth_runner.problem.data.tokenizer_file import FileEncoder, TokenizerFile
from lth_runner.problem.data.tokenizers import Tokenizer
from lth_runner.values import identity
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.home import from_home
from lth_runner.values.ignored import IGNORED
from lth_runner.values.name_patterns import as_names

SHOWN = 12  # names of tags in a message
Read = Mapping[str, Sequence[TaggedSentence]]  # by split: train, test, and maybe val


def tagged_files(
    *,
    root: str,
    length: int,
    vocabulary: int,
    num_classes: int,
    tokenizer: Tokenizer,
    name: str = "tagged",
    train: str = "train.txt",
    val: str | None = "valid.txt",
    test: str = "test.txt",
    layout: Literal["columns", "conllu"] = "columns",
    word_column: int | None = None,
    tag_column: int | None = None,
    comments: bool = False,
    tags: Sequence[str] | None = None,
    validation: float = 0.1,
    split_seed: int = 0,
    subset: float | None = None,
    cache: str | None = None,
) -> SampledData:
    """Reads files of ``root`` in columns, a word with its tag a line; see ``Columns`` and ``Tags``.

    As those of CoNLL-2003 (Tjong Kim Sang and De Meulder, CoNLL 2003, arXiv cs/0306050) are, or in
    CoNLL-U. The model's tokenizer cuts words into pieces, and a word's tag stands at the first
    one. ``tags`` are their names by number, None for those of the training file by the alphabet.
    Words beyond ``length`` take no part, in measures neither, and are counted in ``told``. Without
    ``val``, ``validation`` sentences are held out of train. Raises UserError, naming file and line,
    for what does not fit.
    """
    check_length(length)
    columns = Columns(layout, word_column, tag_column, comments)
    if not isinstance(tokenizer, TokenizerFile):
        raise UserError(
            f"dataset=tagged needs a tokenizer that says of which word a piece is, as the library "
            f"tokenizers does (transformers calls it fast), and {type(tokenizer).__name__} does "
            "not: choose dataset/tokenizer=file dataset.tokenizer.path=<the model's folder>"
        )
    files = _files(from_home(root), {"train": train, "val": val, "test": test})
    given = None if tags is None else list(as_names(tags))
    how = [length, vocabulary, num_classes, astuple(columns), given]

    def encoded() -> Table:
        encode = tokenizer.encoder(())
        check_vocabulary(encode, vocabulary)
        read = {split: columns.read(path) for split, path in files.items()}
        names = _names(files, read, given, num_classes)
        tables = {
            split: _encoded(sentences, encode, length, names, files[split])
            for split, sentences in read.items()
        }
        return {**joined(tables), "names": table_of(names)}

    described = ["tagged", contents(files), how, identity.describe(tokenizer)]
    table = dict(cached_table(described, encoded, cache))
    names = names_of(table.pop("names"))
    tables = parted(table)
    samples = {split: Tags(part, length, names) for split, part in tables.items()}
    told = _told(tables, names, length)
    of_train, of_test = samples["train"], samples["test"]
    if "val" in samples:
        found = SampledData(train=of_train, val=samples["val"], test=of_test)
    else:
        found = SampledData.held_out(
            of_train, of_test, validation=validation, split_seed=split_seed
        )
    kept = found.train if subset is None else some_of(found.train, subset, split_seed)
    return replace(
        found, train=kept, num_classes=num_classes, class_names=names, name=name, told=told
    )


def _files(folder: Path, names: Mapping[str, str | None]) -> dict[str, Path]:
    files = {split: folder / name for split, name in names.items() if name is not None}
    for split, path in files.items():
        if not path.is_file():
            there = sorted(one.name for one in folder.glob("*") if one.is_file())[:SHOWN]
            or_null = " (null: held out of train)" if split == "val" else ""
            raise UserError(
                f"{path} is no file: dataset.{split} names it in dataset.root{or_null}, which "
                f"holds {', '.join(there) or 'no file'}"
            )
    return files


def _names(
    files: Mapping[str, Path], read: Read, given: Sequence[str] | None, num_classes: int
) -> list[str]:
    """Lists the tags by number; raises UserError where their number, or a tag, is another."""
    names = sorted({tag for one in read["train"] for tag in one.tags}) if given is None else given
    if doubled := {tag for tag in names if names.count(tag) > 1}:
        raise UserError(f"dataset.tags names {min(doubled)!r} twice")
    if len(names) != num_classes:
        shown = ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
        of = f"{files['train']} has" if given is None else "dataset.tags names"
        raise UserError(
            f"the config says num_classes={num_classes}, but {of} {len(names)} tags ({shown}): set "
            f"dataset.num_classes={len(names)}, or choose another dataset.tag_column"
        )
    for split, sentences in read.items():
        for one in sentences:
            for tag, line in zip(one.tags, one.lines, strict=True):
                if tag not in names:
                    of = "in the training file" if given is None else "in dataset.tags"
                    raise UserError(
                        f"{files[split]}, line {line}: the tag {tag!r} is not {of}: "
                        f"{nearest(tag, names)}"
                    )
    return list(names)


def _encoded(
    sentences: Sequence[TaggedSentence],
    encode: FileEncoder,
    length: int,
    names: Sequence[str],
    path: Path,
) -> dict[str, Tensor]:
    numbers = {name: number for number, name in enumerate(names)}
    tokens: list[int] = []
    labels: list[int] = []
    ends: list[int] = []
    num_words = num_tagged = 0
    for one in sentences:
        pieces, words = encode.of_words(one.words, length)
        tokens += pieces
        ends.append(len(tokens))
        before = None
        for word in words:
            is_first = word is not None and word != before
            labels.append(numbers[one.tags[word]] if is_first and word is not None else IGNORED)
            num_tagged += is_first
            before = word
        num_words += len(one.words)
        if all(word is None for word in words):
            raise UserError(
                f"{path}, line {one.lines[0]}: dataset.length={length} has no room for the first "
                f"word, or the tokenizer finds no token in {one.words[0]!r}"
            )
    return {
        "tokens": torch.tensor(tokens, dtype=torch.int32),
        "labels": torch.tensor(labels, dtype=torch.int16),
        "ends": torch.tensor(ends),
        "padding": torch.tensor(encode.special.padding),
        "words": torch.tensor([num_words, num_tagged]),
    }


def _told(tables: Mapping[str, Table], names: Sequence[str], length: int) -> str:
    num, tagged = sum(table["words"] for table in tables.values()).tolist()  # type: ignore[union-attr]
    shown = ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)
    lost = f"; {num - tagged:,} of {num:,} words lie beyond dataset.length={length} or have no "
    return f"{len(names)} tags: {shown}" + (lost + "token, and take no part") * (tagged < num)
