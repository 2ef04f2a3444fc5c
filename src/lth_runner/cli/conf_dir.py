"""Where the yaml files lie that come with the program."""

from __future__ import annotations

from pathlib import Path


def conf_dir() -> Path:
    """Returns the packaged conf/ where there is one, else the checkout's."""
    package = Path(__file__).parents[1]
    packaged = package / "conf"
    return packaged if packaged.is_dir() else package.parents[1] / "conf"
