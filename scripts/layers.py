"""The layers of CONTRIBUTING.md: their order is that of their test, the rest of docstrings."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def table() -> str:
    """A line for each part of the package, the highest layer first."""
    lines = ["| layer | what it is |", "|---|---|"]
    for units in reversed(order()):
        for unit in units.split():
            if not unit.startswith("__"):
                lines.append(f"| `{unit}` | {said_of(unit)} |")
    return "\n".join(lines)


def order() -> list[str]:
    """The layers as the test that holds imports to them has them, the lowest first."""
    tree = ast.parse((ROOT / "tests/test_layers.py").read_text())
    [found] = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "LAYERS"
    ]
    return ast.literal_eval(found)


def said_of(unit: str) -> str:
    """The first line of the docstring of a folder or a module of the package."""
    here = ROOT / "src/lth_runner" / unit
    file = here / "__init__.py" if here.is_dir() else here.with_suffix(".py")
    said = ast.get_docstring(ast.parse(file.read_text())) or ""
    return said.splitlines()[0].replace("``", "`")
