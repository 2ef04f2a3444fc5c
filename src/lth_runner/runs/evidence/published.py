"""Curves that papers published, small tables in papers/*.csv, to lay beside our own."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from lth_runner.runs.evidence.means import mean, std
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.measure import ACCURACY

DENSE = "dense"
SAME_DENSITY = 0.05  # relative: papers round densities, and budgets are whole weights


@dataclass(frozen=True)
class PublishedPoint:
    """A published accuracy (0..1) at a density; `low` to `high` as the paper's statistic says."""

    density: float
    accuracy: float
    low: float | None
    high: float | None
    n: int | None


@dataclass(frozen=True)
class PublishedCurve:
    """One series of one paper, by falling density; `dense` is its network of all weights."""

    name: str
    citation: str
    title: str
    statistic: str
    points: tuple[PublishedPoint, ...]
    dense: PublishedPoint | None

    @property
    def label(self) -> str:
        """The series' name as a figure has it."""
        return self.name.partition("/")[2].replace("_", " ")

    def at(self, kept: float) -> PublishedPoint | None:
        """Finds the point at about this density."""
        close = [x for x in self.points if abs(x.density - kept) <= SAME_DENSITY * kept]
        return min(close, key=lambda x: abs(x.density - kept), default=None)


@dataclass(frozen=True)
class PublishedComparison:
    """A published point and our ticket's accuracy (0..1) there; None where no round is."""

    point: PublishedPoint
    mean: float | None
    std: float | None
    n: int

    @property
    def difference(self) -> float | None:
        """Ours minus theirs."""
        return None if self.mean is None else self.mean - self.point.accuracy


def names() -> tuple[str, ...]:
    """Lists what `report.published` accepts: <paper>/<series>."""
    return tuple(_all())


def published(name: str) -> PublishedCurve:
    """Finds a series by its name; raises `UserError` for one that is not there."""
    if name not in _all():
        raise UserError(f"report.published={name!r}: {nearest(name, names())}")
    return _all()[name]


def counterpart(run: FinishedRun) -> PublishedCurve | None:
    """Finds the series of its measure that a run's config names as `report.published`, if any."""
    name = run.option("report", "published")
    return None if name is None or run.measure.name != ACCURACY.name else published(str(name))


def beside(run: FinishedRun, series: PublishedCurve) -> tuple[PublishedComparison, ...]:
    """Lists every published point with the ticket's accuracy in the round of that density."""
    ours: dict[PublishedPoint, list[float]] = {}
    for round in run.rounds(TICKET):
        kept, values = run.density(TICKET, round), run.values(TICKET, round, run.outcome).values()
        dense = round == run.dense_round
        point = series.dense if dense else None if kept is None else series.at(kept)
        if point is not None and values:
            ours[point] = list(values)
    points = (*([series.dense] if series.dense else []), *series.points)
    return tuple(
        PublishedComparison(point, mean(ours[point]), std(ours[point]), len(ours[point]))
        if point in ours
        else PublishedComparison(point, None, None, 0)
        for point in points
    )


@cache
def _all() -> Mapping[str, PublishedCurve]:
    found: dict[str, PublishedCurve] = {}
    folder = files("lth_runner.runs.evidence") / "papers"
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".csv"):
            found.update(_read(file.name.removesuffix(".csv"), file.read_text(encoding="utf-8")))
    return found


def _read(paper: str, text: str) -> dict[str, PublishedCurve]:
    lines = text.splitlines()
    facts = dict(
        line[2:].split(": ", 1) for line in lines if line.startswith("# ") and ": " in line
    )
    table = csv.DictReader(line for line in lines if not line.startswith("#"))
    series: dict[str, list[PublishedPoint]] = {}
    for row in table:
        low, high = (float(row[key]) if row[key] else None for key in ("low", "high"))
        n = int(row["n"]) if row["n"] else None
        point = PublishedPoint(float(row["density"]), float(row["accuracy"]), low, high, n)
        series.setdefault(row["series"], []).append(point)
    dense = series.pop(DENSE, None)
    return {
        f"{paper}/{name}": PublishedCurve(
            name=f"{paper}/{name}",
            citation=facts["citation"],
            title=facts["title"],
            statistic=facts["statistic"],
            points=tuple(sorted(points, key=lambda point: -point.density)),
            dense=dense[0] if dense else None,
        )
        for name, points in series.items()
    }
