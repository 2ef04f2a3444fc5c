"""Text for a terminal, which acts on none of it, whoever wrote the file that it comes from."""

from __future__ import annotations

import argparse
import sys
import traceback
import unicodedata
from types import TracebackType
from typing import NoReturn, TextIO

# control, format (what turns a line around, too), half of a letter, no letter, and line ends
_ACTS = frozenset({"Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp"})


def visible(text: str) -> str:
    r"""Writes what a terminal would act on, line ends too, as escapes: \x1b for escape."""
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def visible_lines(text: str) -> str:
    """Writes what a terminal would act on as escapes, but for line ends and tabs."""
    return "\n".join("\t".join(map(visible, line.split("\t"))) for line in text.split("\n"))


def show(text: str, file: TextIO | None = None) -> None:
    """Prints lines, at once, with nothing in them that a terminal would act on."""
    print(visible_lines(text), file=file, flush=True)


def show_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Prints an exception as Python does (a ``sys.excepthook``), whatever its text holds."""
    show("".join(traceback.format_exception(kind, error, trace)).rstrip("\n"), sys.stderr)


class Arguments(argparse.ArgumentParser):
    """A parser of command lines that shows words it does not know as ``visible`` does."""

    def error(self, message: str) -> NoReturn:
        super().error(visible(message))


def _shown(letter: str) -> str:
    if unicodedata.category(letter) not in _ACTS:
        return letter
    return letter.encode("unicode_escape").decode("ascii")
