"""Panels of a topic's curves: which lines stand in which, read off the rows of runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lth_runner.runs.evidence.means import density, mean, number, std
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.runs.evidence.settings import differences, flatten, natural, plain
from lth_runner.runs.incidental import is_incidental
from lth_runner.runs.pages import drawing
from lth_runner.runs.pages.lines import PERCENT, Line

MOST = 12  # lines of a panel
BANDED = 5  # lines that are told apart with their bands
WITH_CONTROLS = 3  # runs of a panel, of more the tickets alone are drawn
# in what runs may differ that are one line
UNTOLD = re.compile(
    r"name|seed|replicates|device|dataset\.(root|cache)|control(\..*)?|(.+\.)?sparsity"
)
LETTERS = 62  # of a legend's line
THICK = 1.9  # the width of a ticket's line


@dataclass(frozen=True)
class Kind:
    """Runs that differ in sparsity and seed: one line for each arm."""

    label: str  # what tells them from the others of a panel; "" where there are no others
    runs: tuple[FinishedRun, ...]


@dataclass(frozen=True)
class Panel:
    """A field of the rows of some runs, under a heading; `field` None: the headline measure."""

    heading: str
    lines: tuple[Line, ...]
    field: str | None
    kinds: tuple[Kind, ...]

    @property
    def run(self) -> FinishedRun:
        return self.kinds[0].runs[0]

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(line.label for line in self.lines)

    @property
    def scale(self) -> float:
        is_share = self.field is None or self.field.endswith("accuracy")
        return self.run.measure.scale if is_share else 1.0

    @property
    def along(self) -> str:
        """What is along the x axis: values by a key of their own have that."""
        name = self.field or self.run.outcome
        keyed = any(isinstance(row.get(name), Mapping) for row in self.run.rows)
        return "weights remaining (%)" if not keyed else "step" if "_by_step" in name else "layer"


def panels_of(runs: Sequence[FinishedRun], asked: Sequence[str]) -> Iterator[Panel]:
    groups: dict[tuple[str, ...], list[FinishedRun]] = {}
    for run in runs:
        key = (run.name, str(run.option("dataset", "name") or ""), run.measure.name)
        groups.setdefault(key, []).append(run)
    for (name, dataset, _), own in sorted(groups.items()):
        heading = f"{name} · {dataset}" if dataset and dataset not in name else name
        for part, kinds in _split(heading, own):
            for field in (None, *asked):
                panel = Panel(part, (), field, kinds)
                yield replace(panel, lines=_lines(panel))


def _split(heading: str, runs: Sequence[FinishedRun]) -> Iterator[tuple[str, tuple[Kind, ...]]]:
    """All as one panel, or, where that has too many lines, one for each value of a setting."""
    kinds = _kinds(runs)
    found = _differing(runs)
    counts = {key: len(set(map(str, values))) for key, values in found.items()}
    fewest = min((key for key in counts if 1 < counts[key] < len(kinds)),
                 key=lambda key: counts[key], default=None)  # fmt: skip
    if len(kinds) <= MOST or fewest is None:
        yield heading, kinds
        return
    for value in sorted(dict.fromkeys(map(str, found[fewest])), key=natural):
        own = [run for run, its in zip(runs, found[fewest], strict=True) if str(its) == value]
        yield from _split(f"{heading} · {_told(fewest, found[fewest][runs.index(own[0])])}", own)


def _differing(runs: Sequence[FinishedRun]) -> dict[str, list[Any]]:
    """The settings in which runs differ that tell lines and panels apart, each one more of them.

    One that some runs do not have counts where the others differ in it: their program may have
    been older. One that is null they have.
    """
    found: dict[str, list[Any]] = {}
    apart: list[tuple[str, ...]] = [()] * len(runs)
    held = [flatten(run.config).keys() | run.choices.keys() for run in runs]
    for key, values in differences(runs).items():
        known = {str(value) for value, own in zip(values, held, strict=True) if key in own}
        if is_incidental(key) or UNTOLD.fullmatch(key) or len(known) < 2:
            continue
        further = [(*own, str(value)) for own, value in zip(apart, values, strict=True)]
        if len(set(further)) > len(set(apart)):
            found, apart = found | {key: values}, further
    return found


def _kinds(runs: Sequence[FinishedRun]) -> tuple[Kind, ...]:
    found = _differing(runs)
    groups: dict[tuple[str, ...], list[FinishedRun]] = {}
    for place, run in enumerate(runs):
        told = [_told(key, its[place]) for key, its in found.items() if its[place] is not None]
        groups.setdefault(tuple(dict.fromkeys(told)), []).append(run)
    return tuple(Kind(", ".join(told), tuple(own)) for told, own in groups.items())


def _told(key: str, value: object) -> str:
    """A word tells itself, a number or a duration with the name that it has."""
    is_word = isinstance(value, str) and not value[:1].isdigit()
    return f"{value}" if is_word else f"{key.rsplit('.', 1)[-1]} {plain(value)}"


def _lines(panel: Panel) -> tuple[Line, ...]:
    """The tickets, and where few runs are drawn their controls, but those that read the same."""
    few = len(panel.kinds) <= WITH_CONTROLS
    found = [line for kind in panel.kinds for line in _of_arms(panel, kind, controls=few)]
    return tuple(
        replace(line, colour=drawing.colour(place), marker=drawing.marker(place),
                style=drawing.style(place),
                spread=line.spread if len(found) <= BANDED else (0.0,) * len(line.x))
        for place, line in enumerate(found)
    )  # fmt: skip


def _of_arms(panel: Panel, kind: Kind, *, controls: bool) -> Iterator[Line]:
    """One line for each arm that reads anything else than those before."""
    seen: set[tuple[tuple[float, ...], tuple[float, ...]]] = set()
    for arm in dict.fromkeys(arm for run in kind.runs for arm in run.arms):
        own = arm == TICKET
        if not own and not controls:
            continue
        words = [kind.label] * bool(kind.label) + [arm] * (not own or not kind.label)
        line = Line(", ".join(words)[-LETTERS:], "", width=THICK if own else 1.4)
        line = line.through(_points(panel, kind.runs, arm))
        if line.x and (line.x, line.y) not in seen:
            seen.add((line.x, line.y))
            yield line


def _points(
    panel: Panel, runs: Iterable[FinishedRun], arm: str
) -> list[tuple[float, float, float]]:
    """Mean and standard deviation by the weights that remain; by key, of the sparsest with keys.

    A training that several runs share, as the dense one of each sparsity, counts once.
    """
    single: dict[float, dict[object, float]] = {}
    keyed: dict[float, dict[object, Mapping[str, Any]]] = {}
    for run in runs:
        name = panel.field or run.outcome
        for rows in (run.at(arm, round) for round in run.rounds(arm)):
            kept = [x for row in rows if (x := density(row))]
            if not kept:
                continue
            x = float(f"{PERCENT * mean(kept):.4g}")
            for row in rows:
                training, value = row.get("training_key", id(row)), row.get(name)
                if isinstance(value, Mapping):
                    keyed.setdefault(x, {})[training] = value
                elif (y := number(value)) is not None:
                    single.setdefault(x, {})[training] = y
    by_x = {x: list(values.values()) for x, values in single.items()}
    if keyed:
        by_x = _by_key(keyed[min(keyed)].values())
    scale = panel.scale
    found = [(x, scale * mean(ys), scale * (std(ys) or 0.0)) for x, ys in by_x.items()]
    return sorted(found, reverse=panel.along.startswith("weights"))


def _by_key(objects: Iterable[Mapping[str, Any]]) -> dict[float, list[float]]:
    """Values by step, or by the place of a layer."""
    found: dict[float, list[float]] = {}
    for values in objects:
        for place, (key, value) in enumerate(values.items()):
            if (y := number(value)) is not None:
                found.setdefault(float(key) if key.isdigit() else place + 1, []).append(y)
    return found
