"""`lth-run --help` as Hydra prints it, put together without loading Hydra."""

from __future__ import annotations

import string
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import yaml

LAUNCHERS = {"hydra_joblib_launcher", "hydra_submitit_launcher"}  # they bring no yaml of ours


def is_plain(arguments: Sequence[str]) -> bool:
    """Whether help is asked for, and its text depends on our own conf/ alone.

    Overrides, a --config-dir and plugins of Hydra that are not known here may all add to it.
    """
    return list(arguments) in (["--help"], ["-h"]) and _plugins() <= LAUNCHERS


def _plugins() -> set[str]:
    """Packages of Hydra plugins that are installed: they share one namespace."""
    found = find_spec("hydra_plugins")
    places = [] if found is None else found.submodule_search_locations or []
    folders = (path for place in places for path in Path(place).iterdir() if path.is_dir())
    return {path.name for path in folders} - {"__pycache__"}


def text(conf: Path) -> str:
    """The template of conf/hydra/help, filled in with the groups and their options."""
    parts = yaml.safe_load((conf / "hydra" / "help" / "lth.yaml").read_text(encoding="utf-8"))
    template = parts["template"]
    for name in ("header", "footer"):
        template = template.replace(f"${{hydra.help.{name}}}", parts[name])
    return string.Template(template).substitute(APP_CONFIG_GROUPS=_groups(conf))


def _groups(conf: Path) -> str:
    """A line for every group, ``<group>: <option>, <option>``."""
    options: dict[str, list[str]] = {}
    for path in conf.rglob("*.yaml"):
        group = path.parent.relative_to(conf)
        if group.parts and group.parts[0] != "hydra":
            options.setdefault(group.as_posix(), []).append(path.stem)
    return "".join(f"{group}: {', '.join(sorted(options[group]))}\n" for group in sorted(options))
