"""Labels that name points by what tells them apart."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from lth_runner.runs.incidental import is_incidental
from lth_runner.runs.status.point import Point

Settings = Mapping[str, str]
WIDEST = 72  # columns of a label


def labels(points: Sequence[Point]) -> list[str]:
    """Labels each point among those of its name, as ``pruner.sparsity=0.9  rewind.step=0it``.

    The keys are those given on command lines that differ; where these do not tell all points
    apart, the fewest config keys that do come after them. Values of a key are aligned; where that
    takes too wide a line, a point is named by the keys that it was given itself.
    """
    names = {point.name: [p for p in points if p.name == point.name] for point in points}
    found = {id(p): label for group in names.values() for p, label in _group(group)}
    return [found[id(point)] for point in points]


def _group(points: Sequence[Point]) -> list[tuple[Point, str]]:
    given = [overrides(point.command) for point in points]
    configs = [_settings(point.config) for point in points]
    asked = sorted({key for one in given for key in one}, key=_order)
    known = sorted({key for one in configs for key in one}, key=_order)
    columns: dict[str, list[str]] = {}
    for key in asked:
        values = [c.get(key, g.get(key, "")) for c, g in zip(configs, given, strict=True)]
        if len(set(values)) > 1:
            columns[key] = values
    begun = [index for index, point in enumerate(points) if point.config]

    def told_apart(extra: Sequence[Sequence[str]] = ()) -> int:
        seen = [*columns.values(), *extra]
        return len({tuple(values[index] for values in seen) for index in begun})

    for key in known:
        if told_apart() >= len(begun):
            break
        values = [config.get(key, "") for config in configs]
        if told_apart([values]) > told_apart():
            columns[key] = values
    cells = [
        [f"{_shown(key)}={value}" if value else "" for value in values]
        for key, values in columns.items()
    ]
    widths = [max(map(len, column)) for column in cells]
    rows = list(zip(*cells, strict=True)) if cells else [()] * len(points)
    found = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if max(map(len, found)) > WIDEST:
        own = [
            "  ".join(
                cell
                for key, cell in zip(columns, row, strict=True)
                if cell and (key in one or key not in asked or not one)
            )
            for row, one in zip(rows, given, strict=True)
        ]
        found = own if len(set(own)) == len(set(found)) else found
    return list(zip(points, found, strict=True))


def overrides(command: str | None) -> dict[str, str]:
    """Reads the keys that an ``lth-run`` command line sets, but those that change no result."""
    try:
        words = shlex.split(command or "")[1:]
    except ValueError:
        return {}
    pairs = (word.lstrip("+").split("=", 1) for word in words if not word.startswith(("-", "~")))
    return {
        pair[0]: _text(_number(pair[1])) for pair in pairs if len(pair) == 2 and _tells(pair[0])
    }


def _settings(config: Mapping[str, Any]) -> dict[str, str]:
    return {
        key: _text(value)
        for key, value in config.items()
        if _tells(key) and not isinstance(value, tuple)
    }


def _tells(key: str) -> bool:
    return key != "name" and not is_incidental(key)


def _order(key: str) -> tuple[int, bool, str]:
    return key.count("."), not key.endswith("._target_"), key


def _shown(key: str) -> str:
    return key.removesuffix("._target_")


def _number(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"[{','.join(map(_text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
    return text.rpartition(".")[2] if text.startswith("lth_runner.") else text
