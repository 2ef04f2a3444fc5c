"""Numbers of rows, their means over the replicates, and how much of a network a row keeps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lth_runner.runs.folder import Row
from lth_runner.runs.measure import BEYOND

FIRST_ROUND = 0  # the dense network's, unless its mask keeps less than all: see `is_dense`
IDENTITY = ("round", "arm", "seed")
Points = Sequence[tuple[float, float, float]]  # x, mean, standard deviation


@dataclass(frozen=True)
class Summary:
    """One (arm, round) over its replicates; `count[field]` replicates had that field."""

    n: int
    sparsity: float | None
    count: Mapping[str, int]
    mean: Mapping[str, float]
    std: Mapping[str, float | None]


def number(value: object) -> float | None:
    """Reads the number that `value` is, else None, as for one that no training reaches."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < BEYOND else None


def density(row: Row) -> float | None:
    """Reads the fraction of the prunable weights kept, by either of its two names."""
    kept, removed = number(row.get("density")), number(row.get("sparsity"))
    return kept if kept is not None else None if removed is None else 1.0 - removed


def is_dense(row: Row) -> bool:
    """Returns whether a row is the dense network's: of the first round, its mask keeps all."""
    kept = density(row)
    return row["round"] == FIRST_ROUND and (kept is None or kept >= 1.0)


def mean(values: Iterable[float]) -> float:
    """Averages numbers, of which there is at least one."""
    found = tuple(values)
    return math.fsum(found) / len(found)


def std(values: Iterable[float]) -> float | None:
    """Computes the sample standard deviation (ddof = 1); None for fewer than two values."""
    found = tuple(values)
    if len(found) < 2:
        return None
    centre = mean(found)
    return math.sqrt(math.fsum((value - centre) ** 2 for value in found) / (len(found) - 1))


def even_places(num: int, most: int) -> list[int]:
    """Picks at most so many of the places 0, 1, ... num - 1, evenly, first and last among them."""
    if num <= most:
        return list(range(num))
    return sorted({round(i * (num - 1) / (most - 1)) for i in range(most)})


def aggregate(rows: Iterable[Row]) -> dict[tuple[str, int], Summary]:
    """Averages every numeric field over the replicates: (arm, round) -> mean and deviation."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["arm"], row["round"]), []).append(row)
    return {key: _summary(group) for key, group in groups.items()}


def _summary(rows: list[Row]) -> Summary:
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, raw in row.items():
            if name not in IDENTITY and (value := number(raw)) is not None:
                found.setdefault(name, []).append(value)
    kept = [value for value in map(density, rows) if value is not None]
    return Summary(
        n=len(rows),
        sparsity=1.0 - mean(kept) if kept else None,
        count={name: len(values) for name, values in found.items()},
        mean={name: mean(values) for name, values in found.items()},
        std={name: std(values) for name, values in found.items()},
    )


def object_means(rows: Iterable[Row], field: str) -> dict[str, tuple[float, float]]:
    """Averages a field that is an object over the rows: name -> mean and deviation."""
    found: dict[str, list[float]] = {}
    for row in rows:
        values = row.get(field)
        for name, raw in values.items() if isinstance(values, Mapping) else ():
            if (value := number(raw)) is not None:
                found.setdefault(str(name), []).append(value)
    return {name: (mean(values), std(values) or 0.0) for name, values in found.items()}


def list_means(
    rows: Iterable[Row], field: str, places: Callable[[Row, int], Sequence[float]]
) -> Points:
    """Averages a field that is a list, over the rows whose lists are as long as the longest.

    ``places``: where the values of a row lie, as many as they are.
    """
    lists = [(row, row[field]) for row in rows if isinstance(row.get(field), list)]
    longest = max((len(values) for _, values in lists), default=0)
    whole = [(row, values) for row, values in lists if len(values) == longest]
    points = []
    for i, place in enumerate(places(whole[0][0], longest) if longest else ()):
        found = [y for _, values in whole if (y := number(values[i])) is not None]
        if found:
            points.append((place, mean(found), std(found) or 0.0))
    return points
