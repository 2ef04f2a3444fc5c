"""The small files of run folders and sweeps, read as they are: missing or torn is no error."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_BLOCK = re.compile(r"^(?=[^\s#-])", re.MULTILINE)  # where a top-level key begins
_KEY = re.compile(rb'"training_key":\s*"([^"]*)"')


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none to be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a jsonl file, last one first; what is no object is left out."""
    for line in reversed(read_bytes(path).split(b"\n")):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found


def read_config(path: Path) -> dict[str, Any]:
    """A run's config as ``{"pruner.sparsity": 0.9}``; empty where there is none to be read."""
    text = read_bytes(path).decode(errors="replace")
    blocks = [text] if "&id" in text else _BLOCK.split(text)  # an alias reaches beyond its block
    found: dict[str, Any] = {}
    for block in blocks:
        found |= _block(block)
    return found


@functools.lru_cache(maxsize=4096)  # the points of a sweep share most of their config
def _block(text: str) -> dict[str, Any]:
    try:
        found = yaml.load(text, _LOADER)
    except yaml.YAMLError:
        return {}
    return dict(_flat(found, "")) if isinstance(found, dict) else {}


def _flat(value: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield f"{prefix}{key}", tuple(map(str, item))  # its keys: the arms of control, say
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def training_keys(path: Path) -> set[str]:
    """Every training that a rounds.jsonl names, in torn lines as well."""
    return {key.decode(errors="replace") for key in _KEY.findall(read_bytes(path))}


def read_bytes(path: Path) -> bytes:
    """A file's contents, nothing where there is none."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def age(path: Path, now: datetime) -> float:
    """Seconds since a file was touched; infinite where there is none."""
    try:
        return now.timestamp() - path.stat().st_mtime
    except OSError:
        return float("inf")
