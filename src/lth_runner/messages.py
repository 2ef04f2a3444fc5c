"""One clear message for each way in which a command can be wrong."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from lth_runner.errors import nearest


def explain(error: BaseException, conf: Path) -> str:
    """What was wrong, the value, what is accepted, what to do."""
    if isinstance(error, OSError):
        return _explain_os(error)
    text = str(error)
    if isinstance(error, OverrideParseException):
        return (
            f"{_first(text)} (quote lists and patterns for your shell: 'pruner.exclude=[output]')"
        )
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match[1], conf)
    if match := re.search(r"Could not append to config\. An item is already at '([^']+)'", text):
        return f"{match[1]} exists already: leave the + away to set it"
    if isinstance(error, MissingConfigException) or "Could not find" in text:
        return _missing(error, text, conf)
    if isinstance(error, HydraException):
        return _first(text)
    return text


def _unknown_key(key: str, conf: Path) -> str:
    group = key.split("@")[0]
    known = {**_keys(conf), **dict.fromkeys(_groups(conf))}
    if "." not in key and (conf / group).is_dir():
        return f"{group} cannot be chosen here: write +{group}=... to add it"
    return f"unknown key {key!r}: {nearest(key, known)} (a new key of your own part needs a +)"


def _missing(error: BaseException, text: str, conf: Path) -> str:
    missing = getattr(error, "missing_cfg_file", None) or ""
    if match := re.search(r"Could not find '([^']+)'", text):
        missing = match[1]
    group, _, option = str(missing).removesuffix(".yaml").rpartition("/")
    options = list(getattr(error, "options", None) or [])
    if not options and (conf / group).is_dir():
        options = [path.stem for path in sorted((conf / group).glob("*.yaml"))]
    if not options:
        return f"{_first(text)}: {nearest(group or option, _groups(conf))}"
    close = nearest(option, options)
    rest = "" if close.startswith("accepted") else f" (accepted: {', '.join(sorted(options))})"
    return f"there is no {group}={option}: {close}{rest}"


def _explain_os(error: OSError) -> str:
    where = error.filename or "a file"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space left to write {where}: free some, or choose another disk with "
            "paths.outputs=...; what was finished is kept, the same command goes on from there"
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return (
            f"{where} cannot be written ({error.strerror}): choose a folder with paths.outputs=..."
        )
    return f"{where}: {error.strerror or error}"


def _groups(conf: Path) -> list[str]:
    folders = (path for path in conf.rglob("*") if path.is_dir())
    return [path.relative_to(conf).as_posix() for path in folders]


def _keys(conf: Path) -> dict[str, None]:
    """Every dotted key of the default config and of all options of its groups."""
    keys: dict[str, None] = {}
    for path in conf.rglob("*.yaml"):
        loaded = OmegaConf.load(path)
        group = path.relative_to(conf).parent.as_posix()
        if not isinstance(loaded, DictConfig):
            continue
        prefix = "" if group in (".", "experiment", "scale", "sweep") else group.replace("/", ".")
        for key in _dotted(OmegaConf.to_container(loaded, resolve=False)):
            head = prefix.removeprefix("skeleton.").replace("skeleton", "pruner")
            keys[f"{head}.{key}" if head else key] = None
    return {k: None for k in keys if not k.startswith(("defaults", "hydra"))}


def _dotted(node: object, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    found = []
    for key, value in node.items():
        if str(key).startswith("_"):
            continue
        path = f"{prefix}.{key}" if prefix else str(key)
        found += [path, *_dotted(value, path)]
    return found


def _first(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[0] if lines else text
