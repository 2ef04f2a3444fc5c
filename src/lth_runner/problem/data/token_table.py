"""Encoded texts as tensors of a file, made once and then mapped into memory."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lth_runner.problem.data.cache_file import cache_folder, write_cache_file
from lth_runner.values import identity

CACHE_FORMAT = 1  # part of the cached file's name: raise it when the encoding changes
Table = Mapping[str, Tensor]
_log = logging.getLogger(__name__)


def cached_table(
    made_of: Any,
    make: Callable[[], Table],
    cache: str | None,
    *,
    kind: str = "texts",
    told: str = "encoding texts",
) -> Table:
    """Reads the tensors that were kept for ``made_of``, or makes and keeps them.

    They are mapped: pages are read when a batch needs them, and shared with other runs. A file
    whose content is not what was written is set aside and made anew. Raises UserError where the
    folder takes none.
    """
    folder = cache_folder(cache)
    path = folder / f"{kind}-{identity.digest([CACHE_FORMAT, made_of])}.safetensors"
    if path.is_file():
        try:
            return _mapped(path)
        except (SafetensorError, OSError, ValueError) as error:
            path.replace(path.with_suffix(".corrupt"))
            _log.warning("cache file %s is damaged (%s): set aside and rebuilt", path, error)
    _log.info(told)
    _write(path, make(), kind)
    return _mapped(path)


def table_of(names: Sequence[str]) -> Tensor:
    """Writes names as a tensor, which is what a table holds: the bytes of a JSON list."""
    return torch.frombuffer(bytearray(json.dumps(list(names)).encode()), dtype=torch.uint8)


def names_of(value: Tensor) -> tuple[str, ...]:
    """Reads what ``table_of`` wrote."""
    return tuple(json.loads(bytes(value.tolist())))


def fingerprint_of(table: Table) -> str:
    """Hashes tensors by their names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, value in sorted(table.items()):
        digest.update(f"{name}:{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _mapped(path: Path) -> Table:
    with safe_open(path, framework="pt") as file:
        expected = (file.metadata() or {}).get("sha256")
        found = {name: file.get_tensor(name) for name in sorted(file.keys())}
    if fingerprint_of(found) != expected:
        raise ValueError("its checksum does not match")
    return found


def _write(path: Path, table: Table, kind: str) -> None:
    plain = {name: value.contiguous() for name, value in table.items()}
    write_cache_file(
        path,
        plain,
        {"sha256": fingerprint_of(plain)},
        "encoded texts" if kind == "texts" else "list of images",
    )
