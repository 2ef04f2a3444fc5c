"""Tables as cells, and as aligned plain text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from lth_runner.runs.aligned_text import aligned

WIDTH = 100

Cells = tuple[list[str], list[list[str]]]  # header, and the lines below it


def ruled(cells: Cells, *, left: int = -1) -> list[str]:
    """Aligns a table with a rule below its header: numbers to the right, one column to the left."""
    header, body = cells
    rule = ["-" * max(map(len, column)) for column in zip(header, *body, strict=True)]
    right = set(range(len(header))) - {left % len(header)}
    return aligned([header, rule, *body], right=right)


def wrapped(sentences: Sequence[str]) -> list[str]:
    """Breaks sentences into lines of a terminal, each beginning a new one; an empty one is none."""
    return [line for sentence in sentences for line in textwrap.wrap(sentence, WIDTH)]
