"""Curves that papers published, to lay beside our own: small tables in papers/*.csv."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from lth_runner.runs.report.rows import ACCURACY, TICKET, Run, density, mean, std
from lth_runner.values.errors import UserError, nearest

DENSE = "dense"
SAME_DENSITY = 0.05  # relative: papers round densities, and budgets are whole weights


@dataclass(frozen=True)
class Point:
    """A published accuracy (0..1) at a density; `low` to `high` as the paper's statistic says."""

    density: float
    accuracy: float
    low: float | None
    high: float | None
    n: int | None


@dataclass(frozen=True)
class Published:
    """One series of one paper, by falling density; `dense` is its network of all weights."""

    name: str
    citation: str
    title: str
    statistic: str
    points: tuple[Point, ...]
    dense: Point | None

    @property
    def label(self) -> str:
        return self.name.partition("/")[2].replace("_", " ")

    def at(self, kept: float) -> Point | None:
        """The point at about this density."""
        close = [x for x in self.points if abs(x.density - kept) <= SAME_DENSITY * kept]
        return min(close, key=lambda x: abs(x.density - kept), default=None)


@dataclass(frozen=True)
class Beside:
    """A published point and our ticket's accuracy (0..1) there; None where no round is."""

    point: Point
    mean: float | None
    std: float | None
    n: int

    @property
    def difference(self) -> float | None:
        """Ours minus theirs."""
        return None if self.mean is None else self.mean - self.point.accuracy


def names() -> tuple[str, ...]:
    """What `report.published` accepts: <paper>/<series>."""
    return tuple(_all())


def published(name: str) -> Published:
    """Raises `UserError` for a series that is not there."""
    if name not in _all():
        raise UserError(f"report.published={name!r}: {nearest(name, names())}")
    return _all()[name]


def counterpart(run: Run) -> Published | None:
    """The series that the run's config names as `report.published`, if any."""
    section = run.config.get("report")
    name = section.get("published") if isinstance(section, Mapping) else None
    return None if name is None else published(str(name))


def beside(run: Run, series: Published) -> tuple[Beside, ...]:
    """Every published point with the ticket's accuracy in the round of that density."""
    ours: dict[Point, list[float]] = {}
    for round in run.rounds(TICKET):
        kept = [value for row in run.at(TICKET, round) if (value := density(row)) is not None]
        values = run.values(TICKET, round, ACCURACY).values()
        dense = round == run.dense_round
        point = series.dense if dense else series.at(mean(kept)) if kept else None
        if point is not None and values:
            ours[point] = list(values)
    points = (*([series.dense] if series.dense else []), *series.points)
    return tuple(
        Beside(point, mean(ours[point]), std(ours[point]), len(ours[point]))
        if point in ours
        else Beside(point, None, None, 0)
        for point in points
    )


@cache
def _all() -> Mapping[str, Published]:
    found: dict[str, Published] = {}
    folder = files("lth_runner.runs.report") / "papers"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".csv"):
            found.update(_read(file.name.removesuffix(".csv"), file.read_text(encoding="utf-8")))
    return found


def _read(paper: str, text: str) -> dict[str, Published]:
    lines = text.splitlines()
    facts = dict(
        line[2:].split(": ", 1) for line in lines if line.startswith("# ") and ": " in line
    )
    table = csv.DictReader(line for line in lines if not line.startswith("#"))
    series: dict[str, list[Point]] = {}
    for row in table:
        low, high = (float(row[key]) if row[key] else None for key in ("low", "high"))
        n = int(row["n"]) if row["n"] else None
        point = Point(float(row["density"]), float(row["accuracy"]), low, high, n)
        series.setdefault(row["series"], []).append(point)
    dense = series.pop(DENSE, None)
    return {
        f"{paper}/{name}": Published(
            name=f"{paper}/{name}",
            citation=facts["citation"],
            title=facts["title"],
            statistic=facts["statistic"],
            points=tuple(sorted(points, key=lambda point: -point.density)),
            dense=dense[0] if dense else None,
        )
        for name, points in series.items()
    }
