"""Texts of a file, each with its class or its number, as a table in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lth_runner.problem.data.rows import Row, read_rows
from lth_runner.problem.data.splits import Split, hold_out, keep_subset
from lth_runner.problem.data.tensors import Data
from lth_runner.problem.data.tokenizers import PADDING, Encode, Tokenizer, Words
from lth_runner.values.errors import UserError, nearest


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
) -> Data:
    """Reads .tsv, .csv or .jsonl files of ``root`` into tokens ``input_ids``, ``attention_mask``.

    Both are int64 [samples, length], padded behind with 0 or cut. ``text_columns`` are one column
    or two, None for all but the label's; columns are names of the first line (or keys of JSON), or
    numbers from 0, which are all there is with ``header=False``. Classes are numbers from 0 as they
    are, or names, numbered by the alphabet; with ``num_classes=None`` labels are numbers to be
    predicted, float32 [samples, 1]. ``tokenizer`` (default: ``Words``) learns from the training
    file alone. Without ``val``, ``validation`` samples are held out of train. Raises UserError,
    naming file and line, for what does not fit.
    """
    if isinstance(length, bool) or length < 1:
        raise UserError(f"dataset.length={length} must be at least 1: the tokens of one sample")
    folder = Path(root).expanduser()
    paths = {"train": train, "test": test} | ({"val": val} if val else {})
    read = {
        split: _read(folder / path, text_columns, label_column, header=header)
        for split, path in paths.items()
    }
    encode = (tokenizer or Words(vocabulary)).encoder(
        part for row in read["train"] for part in row.parts
    )
    classes = None if num_classes is None else _classes(read["train"], num_classes)
    splits = {
        split: (_encoded(rows, encode, length, vocabulary), _targets(rows, classes))
        for split, rows in read.items()
    }
    kept, held = _with_validation(splits, validation, split_seed)
    return Data(
        train=keep_subset(kept, subset, seed=split_seed),
        val=held,
        test=splits["test"],
        num_classes=num_classes,
        name=name,
    )


@dataclass(frozen=True)
class _Labelled:
    """One row: its texts, its label, and where it stands."""

    parts: tuple[str, ...]
    label: str
    where: str


def _read(
    path: Path, text_columns: Sequence[str | int] | None, label_column: str | int, *, header: bool
) -> list[_Labelled]:
    rows = read_rows(path, header=header)
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


def _labelled(path: Path, row: Row, texts: Sequence[str], label: str) -> _Labelled:
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
    return _Labelled(parts, str(cells[label]).strip(), where)


def _encoded(
    rows: Sequence[_Labelled], encode: Encode, length: int, vocabulary: int
) -> dict[str, Tensor]:
    if len(rows[0].parts) == 2 and length < 3:
        raise UserError(f"dataset.length={length} has no room for two texts: give at least 3")
    found = []
    for row in rows:
        numbers = encode(row.parts, length)
        if not numbers:
            raise UserError(f"{row.where}: the tokenizer finds no token in {row.parts[0]!r}")
        if max(numbers) >= vocabulary:
            raise UserError(
                f"{row.where}: the tokenizer gives token {max(numbers)}, beyond "
                f"dataset.vocabulary={vocabulary}: set it to the tokenizer's own"
            )
        found.append(numbers)
    padded = [numbers + [PADDING] * (length - len(numbers)) for numbers in found]
    counts = torch.tensor([len(numbers) for numbers in found])
    mask = (torch.arange(length) < counts[:, None]).long()
    return {"input_ids": torch.tensor(padded), "attention_mask": mask}


def _classes(rows: Sequence[_Labelled], num_classes: int) -> dict[str, int]:
    """The class number of each label of the training file."""
    labels = sorted({row.label for row in rows})
    where = rows[0].where.rpartition(",")[0]
    if all(label.isascii() and label.isdigit() for label in labels):
        found = {label: int(label) for label in labels}
        least, known = min(found.values()), max(found.values()) + 1
        shown = f"class numbers {least} to {known - 1}"
        if least > 0 and known != num_classes:
            raise UserError(
                f"{where}: the config says num_classes={num_classes}, but the file has {shown}: "
                f"class numbers must start at 0: subtract {least} from each (or give names, which "
                "are numbered by the alphabet)"
            )
    else:
        found = {label: number for number, label in enumerate(labels)}
        known, shown = len(labels), f"{len(labels)} classes ({', '.join(labels[:10])})"
    if known != num_classes:
        raise UserError(
            f"{where}: the config says num_classes={num_classes}, but the file has {shown}: set "
            f"dataset.num_classes={known}, or null where the labels are numbers to be predicted"
        )
    return found


def _targets(rows: Sequence[_Labelled], classes: Mapping[str, int] | None) -> Tensor:
    if classes is None:
        return torch.tensor([[_number(row)] for row in rows], dtype=torch.float32)
    for row in rows:
        if row.label not in classes:
            raise UserError(
                f"{row.where}: the class {row.label!r} is not in the training file: "
                f"{nearest(row.label, classes)}"
            )
    return torch.tensor([classes[row.label] for row in rows])


def _number(row: _Labelled) -> float:
    try:
        value = float(row.label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(
            f"{row.where}: the label {row.label!r} is no finite number: with num_classes=null "
            "labels are numbers to be predicted; set dataset.num_classes for classes"
        )
    return value


def _with_validation(
    splits: Mapping[str, Split], validation: float, split_seed: int
) -> tuple[Split, Split]:
    if "val" in splits:
        return splits["train"], splits["val"]
    return hold_out(splits["train"], validation, seed=split_seed)
