"""Rows of TSV, CSV and JSONL files, each with the line it stands on."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lth_runner.values.errors import UserError, nearest
from lth_runner.values.files import read_regular
from lth_runner.values.json_files import loaded

Row = tuple[int, Mapping[str, Any]]  # line number from 1, cells by column
SUFFIXES = (".tsv", ".csv", ".jsonl")


def read_rows(path: Path, *, header: bool = True) -> list[Row]:
    """Reads a file's rows by its suffix: .tsv (no quotes), .csv (quoted as usual) or .jsonl.

    Columns go by the names of the first line, or with ``header=False`` by their numbers from 0;
    those of JSON objects by their keys. Empty lines are left out. Raises UserError, naming file and
    line, for what is no such file.
    """
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: {nearest(path.suffix, SUFFIXES)}")
    text = decoded(path)
    if path.suffix == ".jsonl":
        return list(_objects(path, text))
    lines = _quoted(path, text) if path.suffix == ".csv" else tabbed(text)
    return list(_by_column(path, lines, header=header))


def decoded(path: Path) -> str:
    """Reads a UTF-8 text; raises UserError, naming the line of a byte that is none."""
    content = whole(path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}, line {line}, is no UTF-8 text ({error.reason}): save the file as UTF-8"
        ) from error


def whole(path: Path) -> bytes:
    """Reads a file; raises UserError where that cannot be."""
    try:
        return read_regular(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def tabbed(text: str) -> Iterator[tuple[int, list[str]]]:
    """Goes through lines of cells with tabs between them, numbered from 1; quotes are text."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line := line.removesuffix("\r"):
            yield number, line.split("\t")


def _quoted(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    before = csv.field_size_limit(sys.maxsize)  # else no cell may have more than 131,072 characters
    try:
        while True:
            begins = reader.line_num + 1  # a quoted cell may go over several lines
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise UserError(f"{path}, line {begins}, is no CSV: {error}") from error
            if cells is None:
                return
            if cells:
                yield begins, cells
    finally:
        csv.field_size_limit(before)


def _by_column(
    path: Path, lines: Iterator[tuple[int, list[str]]], *, header: bool
) -> Iterator[Row]:
    names: list[str] | None = None
    for number, cells in lines:
        if names is None:
            names = cells if header else [str(index) for index in range(len(cells))]
            if doubled := {name for name in names if names.count(name) > 1}:
                raise UserError(f"{path}, line {number}: two columns are called {min(doubled)!r}")
            if header:
                continue
        if len(cells) != len(names):
            raise UserError(
                f"{path}, line {number}, has {len(cells)} cells, and there are {len(names)} "
                f"columns ({', '.join(names)})"
            )
        yield number, dict(zip(names, cells, strict=True))


def _objects(path: Path, text: str) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            found = loaded(line)
        except ValueError as error:
            told = getattr(error, "msg", error)
            raise UserError(f"{path}, line {number}, is no JSON: {told}") from error
        if not isinstance(found, dict):
            raise UserError(
                f"{path}, line {number}, is a {type(found).__name__}: each line must be a JSON "
                'object, {"text": ..., "label": ...}'
            )
        yield number, found
