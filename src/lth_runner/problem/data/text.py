"""Texts of a file, each with its class or its number."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from lth_runner.problem.data.rows import Row, read_rows, whole
from lth_runner.problem.data.sampled import SampledData
from lth_runner.problem.data.sentences import Labelled, Sentences
from lth_runner.problem.data.tensors import Data
from lth_runner.problem.data.tokenizers import Tokenizer
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.home import from_home


def text_files(
    *,
    root: str,
    length: int,
    vocabulary: int,
    num_classes: int | None,
    tokenizer: Tokenizer | None = None,
    name: str = "text",
    train: str = "train.tsv",
    val: str | None = "dev.tsv",
    test: str = "test.tsv",
    header: bool = True,
    text_columns: Sequence[str | int] | None = None,
    label_column: str | int = "label",
    validation: float = 0.1,
    split_seed: int = 0,
    subset: float | None = None,
    pad: Literal["length", "batch"] = "length",
    token_types: bool = True,
    cache: str | None = None,
) -> Data | SampledData:
    """Reads .tsv, .csv or .jsonl files of ``root`` into tokens.

    ``text_columns`` are one column or two, None for all but the label's; columns are names of the
    first line (or keys of JSON), or numbers from 0, which are all there is with ``header=False``.
    Without ``val``, ``validation`` samples are held out of train. All else is said by
    ``Sentences``. Raises UserError, naming file and line, for what does not fit.
    """
    folder = from_home(root)
    paths = {"train": train, "test": test} | ({} if val is None else {"val": val})
    files = {split: folder / path for split, path in paths.items()}
    made_by = Sentences(
        name=name,
        length=length,
        vocabulary=vocabulary,
        num_classes=num_classes,
        tokenizer=tokenizer,
        pad=pad,
        token_types=token_types,
        cache=cache,
        validation=validation,
        split_seed=split_seed,
        subset=subset,
    )

    def read() -> dict[str, list[Labelled]]:
        return {
            split: labelled_rows(path, read_rows(path, header=header), text_columns, label_column)
            for split, path in files.items()
        }

    columns = None if text_columns is None else list(text_columns)
    return made_by.of(read, lambda: [contents(files), header, columns, label_column])


def contents(files: Mapping[str, Path]) -> dict[str, list[str]]:
    """Says what files of splits hold: suffix, and SHA-256; raises UserError for what is no file."""
    return {split: [path.suffix, hashlib.sha256(whole(path)).hexdigest()]
            for split, path in files.items()}  # fmt: skip


def labelled_rows(
    path: Path,
    rows: Sequence[Row],
    text_columns: Sequence[str | int] | None,
    label_column: str | int,
) -> list[Labelled]:
    """Takes texts and label of a file's rows; raises UserError, naming file and line."""
    if not rows:
        raise UserError(f"{path} holds no sample")
    names = list(rows[0][1])
    label = _column(path, label_column, names, "label_column")
    if text_columns is None:
        texts = [name for name in names if name != label]
    else:
        texts = [_column(path, column, names, "text_columns") for column in text_columns]
    if len(texts) not in (1, 2):
        raise UserError(
            f"{path}: dataset.text_columns are one column or two, not {texts}: name them, there "
            f"are {', '.join(names)}"
        )
    return [_labelled(path, row, texts, label) for row in rows]


def _column(path: Path, column: str | int, names: Sequence[str], key: str) -> str:
    if isinstance(column, int) and not isinstance(column, bool):
        if 0 <= column < len(names):
            return names[column]
        raise UserError(f"{path}: dataset.{key}={column}: accepted 0 to {len(names) - 1}")
    if column not in names:
        raise UserError(
            f"{path} has no column {column!r} (dataset.{key}): {nearest(str(column), names)}"
        )
    return str(column)


def _labelled(path: Path, row: Row, texts: Sequence[str], label: str) -> Labelled:
    number, cells = row
    where = f"{path}, line {number}"
    for column in (*texts, label):
        if cells.get(column) is None:
            raise UserError(f"{where}, has no {column!r}: each row needs one")
    parts = tuple(cells[column] for column in texts)
    for column, part in zip(texts, parts, strict=True):
        if not isinstance(part, str):
            raise UserError(f"{where}: {column!r} is a {type(part).__name__}, not a text: {part!r}")
        if not part.strip():
            raise UserError(f"{where}: {column!r} is empty: remove the row")
    if not isinstance(cells[label], (str, int, float)):
        raise UserError(f"{where}: {label!r} is a {type(cells[label]).__name__}, not a label")
    return Labelled(parts, str(cells[label]).strip(), where)
