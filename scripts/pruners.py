"""The tables of docs/pruners.md: a pruner's line from the head of its yaml, by kind of search."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import keys

COLUMNS = {  # by the field of a yaml's head
    "Paper": "paper",
    "Scored": "what is scored, and when",
    "Differs": "differs from the official code",
    "Labels": "labels decide",
    "Masks": "masks",
}
UNSAID = {"Labels": "yes"}
HEAD = "| pruner | " + " | ".join(COLUMNS.values()) + " |\n|---" + "|---" * len(COLUMNS) + "|"
SOURCE = Path(__file__).parents[1] / "src"


def tables() -> str:
    """A table for each kind of search, below what the search says of itself."""
    of: dict[str, list[str]] = {}
    for path in sorted((keys.CONF / "pruner").glob("*.yaml")):
        search = keys.value(path, "search._target_")
        said = [keys.field(path, name) or UNSAID.get(name, "") for name in COLUMNS]
        cells = [text.replace("|", "\\|") for text in said]
        of.setdefault(search, []).append(f"| `{path.stem}` | " + " | ".join(cells) + " |")
    first = keys.value(keys.CONF / "pruner/imp.yaml", "search._target_")
    parts = []
    for search in sorted(of, key=lambda one: (one != first, one)):
        lines = "\n".join([HEAD, *of[search]])
        parts.append(f"`{search.rpartition('.')[2]}`: {said_of(search)}\n\n{lines}")
    return "\n\n".join(parts)


def said_of(target: str) -> str:
    """The first sentence of the docstring of a class, which is not imported."""
    package, _, name = target.rpartition(".")
    here = SOURCE / package.replace(".", "/")
    module = here.with_suffix(".py")
    for file in [module] if module.is_file() else sorted(here.rglob("*.py")):
        if name in classes(file):
            return classes(file)[name]
    raise SystemExit(f"{target} has no docstring in src/")


@functools.cache
def classes(file: Path) -> dict[str, str]:
    """The first lines of the docstrings of a file's classes."""
    found = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef)]
    said = {node.name: ast.get_docstring(node) for node in found}
    return {name: text.splitlines()[0].replace("``", "`") for name, text in said.items() if text}
