"""Documents as tests read them: their code, their commands, their tables."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path


def blocks(text: str, language: str) -> list[str]:
    """Fenced code, those inside of lists too, without their indentation."""
    found = re.finditer(rf"^( *)```{language}\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{match[1]}", "", match[2], flags=re.MULTILINE) for match in found]


def commands(text: str) -> list[list[str]]:
    lines = [line for block in blocks(text, "sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.strip()]


def section(text: str, title: str) -> str:
    return re.split(r"^## ", text.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def table(text: str) -> dict[str, list[str]]:
    """The tables' lines by the name in their first column."""
    lines = [re.split(r"\s*\|\s*", line)[1:-1] for line in text.splitlines() if line[:3] == "| `"]
    return {line[0].strip("`"): line[1:] for line in lines}


def named(block: str) -> str:
    """The file that a block is, from a comment in its first lines."""
    return re.findall(r"^# (\S+\.(?:py|yaml))$", block, re.MULTILINE)[0]


@contextlib.contextmanager
def workshop_of(text: str, folder: Path) -> Iterator[None]:
    """Stands in a user's folder that holds every file that a text has them write."""
    written = set()
    for block in [*blocks(text, "python"), *blocks(text, "yaml")]:
        name = named(block)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(block)
        written.add(name)

    def forget() -> None:  # another test's module of the same name would be found again
        for name in written:
            sys.modules.pop(Path(name).stem, None)

    before = Path.cwd()
    forget()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        forget()
