"""JSON in files that anybody may have torn or made up: what is whole is read, nothing raises."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lth_runner.values.files import read_regular

MOST_ROWS = 2**30  # bytes of a file that is read whole
_decode = json.JSONDecoder(
    parse_constant=lambda _: None
).decode  # json.loads would make a decoder for each line


def read_bytes(path: Path, most: int = MOST_ROWS) -> bytes:
    """Returns a file's contents, nothing where there is none of this size to be read."""
    try:
        return read_regular(path, most)
    except OSError:
        return b""


def read_object(path: Path, most: int = MOST_ROWS) -> dict[str, Any] | None:
    """Returns the JSON object of a file, or None where there is none of this size to be read."""
    try:
        found = loaded(read_regular(path, most))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def loaded(content: bytes | str) -> Any:
    """Returns the value of a whole file; raises ValueError for what is none."""
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def decoded(line: bytes) -> Any:
    """Returns the value of one line, NaN and infinity as None; raises ValueError for a torn one."""
    try:
        return _decode(line.decode())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def whole_objects(path: Path) -> list[dict[str, Any]]:
    """Returns the objects of a file of JSON lines, up to the first line that is torn."""
    try:
        content = read_regular(path, MOST_ROWS)
    except FileNotFoundError:
        return []
    return objects_in(content)


def objects_in(content: bytes) -> list[dict[str, Any]]:
    """Returns the objects of JSON lines, up to the first line that is torn or none."""
    found: list[dict[str, Any]] = []
    for line in content.split(b"\n")[:-1]:  # what follows the last newline is not whole
        try:
            value = decoded(line)
        except ValueError:
            break
        if not isinstance(value, dict):
            break
        found.append(value)
    return found


def objects_from_end(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the objects of a file of JSON lines, the last one first, and skips what is none."""
    for line in reversed(read_bytes(path).split(b"\n")):
        try:
            found = decoded(line)
        except ValueError:
            continue
        if isinstance(found, dict):
            yield found
