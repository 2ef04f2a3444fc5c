"""Sentences of tagged words in columns, a word a line, as the shared tasks of CoNLL have them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lth_runner.problem.data.rows import decoded
from lth_runner.values.errors import UserError, nearest

LAYOUTS = ("columns", "conllu")
DOCUMENT = "-DOCSTART-"  # begins a line that stands between documents
BLANKS = re.compile(r"[ \t]+")  # fewer than str.split's: a word may hold a no-break space
NUMBER = re.compile(r"\d+")
NO_WORD = re.compile(r"\d+-\d+|\d+\.\d+")  # of CoNLL-U: several words as they are written, and none


@dataclass(frozen=True, slots=True)
class TaggedSentence:
    """Words with their tags, and the lines that they stand on."""

    words: tuple[str, ...]
    tags: tuple[str, ...]
    lines: tuple[int, ...]


@dataclass(frozen=True)
class Columns:
    """Says where a line has its word and its tag; columns are counted from 0, from -1 backwards.

    ``layout`` is ``columns``: cells with tabs between them, or spaces where a line has no tab; the
    word is the first and the tag the last if nothing else is said. Or ``conllu``: ten cells with
    tabs between them, the word in column 1 and the part of speech in column 3. Empty lines, and
    those that begin with -DOCSTART-, end a sentence; with ``comments``, and in CoNLL-U, lines that
    begin with "# " are left out. Raises UserError for another layout, and for one column twice.
    """

    layout: Literal["columns", "conllu"] = "columns"
    word_column: int | None = None
    tag_column: int | None = None
    comments: bool = False

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise UserError(f"dataset.layout={self.layout}: {nearest(str(self.layout), LAYOUTS)}")
        if self.word == self.tag:
            raise UserError(
                f"dataset.word_column={self.word} and dataset.tag_column={self.tag} are one column"
            )

    @property
    def word(self) -> int:
        """The column of words."""
        plain = 1 if self._is_conllu else 0
        return plain if self.word_column is None else self.word_column

    @property
    def tag(self) -> int:
        """The column of tags."""
        plain = 3 if self._is_conllu else -1
        return plain if self.tag_column is None else self.tag_column

    def read(self, path: Path) -> list[TaggedSentence]:
        """Reads a file's sentences; raises UserError, naming file and line, for what is no such."""
        found: list[TaggedSentence] = []
        rows: list[tuple[str, str, int]] = []
        for number, cells in self._lines(path):
            if cells is not None:
                rows.append((*self._word_and_tag(cells, f"{path}, line {number}"), number))
            elif rows:
                found.append(TaggedSentence(*zip(*rows, strict=True)))
                rows = []
        if not found:
            raise UserError(f"{path} holds no sentence: a word a line, behind it its tag")
        return found

    @property
    def _is_conllu(self) -> bool:
        return self.layout == "conllu"

    def _lines(self, path: Path) -> Iterator[tuple[int, list[str] | None]]:
        """Goes through the cells of the lines that hold a word, None between sentences."""
        first: tuple[int, int] | None = None
        for number, line in enumerate(decoded(path).split("\n"), start=1):
            line = line.removesuffix("\r")
            if not line.strip(" \t") or line.startswith(DOCUMENT):
                yield number, None
                continue
            if self._is_comment(line):
                continue
            cells = line.split("\t") if "\t" in line else BLANKS.split(line.strip(" "))
            if self._is_conllu and self._is_no_word(cells, f"{path}, line {number}"):
                continue
            first = first or (number, len(cells))
            if min(self.word, self.tag) < 0 and len(cells) != first[1]:
                raise UserError(
                    f"{path}, line {number}, is cut into {len(cells)} cells, and line {first[0]} "
                    f"into {first[1]}: which is the last one is not known; mend the line, or count "
                    "dataset.word_column and dataset.tag_column from 0"
                )
            yield number, cells
        yield 0, None

    def _is_comment(self, line: str) -> bool:
        begin = "#" if self._is_conllu else "# "
        return (self._is_conllu or self.comments) and line.startswith(begin)

    def _is_no_word(self, cells: list[str], where: str) -> bool:
        if NO_WORD.fullmatch(cells[0]):
            return True
        if not NUMBER.fullmatch(cells[0]):
            raise UserError(
                f"{where}, is none of CoNLL-U, which begins with a word's number and a tab, "
                f"not with {cells[0]!r}: choose dataset.layout=columns"
            )
        return False

    def _word_and_tag(self, cells: list[str], where: str) -> tuple[str, str]:
        num = len(cells)
        places = [column + num if column < 0 else column for column in (self.word, self.tag)]
        if not all(0 <= place < num for place in places) or places[0] == places[1]:
            raise UserError(
                f"{where}, has {num} column{'s' * (num != 1)}, too few for a word in column "
                f"{self.word} and a tag in column {self.tag} (dataset.word_column, "
                "dataset.tag_column, from 0)"
            )
        word, tag = (cells[place].strip(" ") for place in places)
        if not word or not tag:
            raise UserError(f"{where}, has no {'tag' if word else 'word'}: its column is empty")
        return word, tag
