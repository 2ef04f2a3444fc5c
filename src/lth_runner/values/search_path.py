"""Where modules are found: in the working folder last, after Python's own and those installed.

A ``statistics.py`` that lies where `lth-run` is called is not taken for Python's. Nothing is
imported here that Python has not loaded by itself, since it might be found there.
"""

from __future__ import annotations

import os
import sys


def without_working_folder() -> None:
    """Takes away the working folder where ``python -m`` has put it first."""
    if sys.path[:1] in ([""], [os.getcwd()]):  # noqa: PTH109  (pathlib may not be loaded)
        del sys.path[0]


def user_code_last() -> None:
    """Makes the modules of the working folder importable, where no other has their name."""
    without_working_folder()
    here = os.getcwd()  # noqa: PTH109
    if here not in sys.path:
        sys.path.append(here)


def hidden_by(module: str) -> str | None:
    """Says what is imported in the place of a module of the working folder; None where none is.

    ``module`` is the first part of an import path.
    """
    from importlib.machinery import PathFinder
    from pathlib import Path

    here = Path.cwd()
    if not any(path.exists() for path in (here / f"{module}.py", here / module / "__init__.py")):
        return None
    others = [place for place in sys.path if place not in ("", str(here))]
    for finder in sys.meta_path:
        found = finder.find_spec(module, others if finder is PathFinder else None)
        if found is not None and found.origin is not None:  # no folder that is no package
            return None if here in Path(found.origin).parents[:2] else found.origin
    return None
