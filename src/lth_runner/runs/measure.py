"""The measures of a run, and the figures that it ended with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lth_runner.runs.folder import last_tickets, read_flat_config, read_problem
from lth_runner.values.measure import ACCURACY, LOSS, Measure

BEYOND = 1e70  # what no training reaches; the fourth power of values below it is a number


def measures(folder: Path) -> tuple[Measure, ...]:
    """Returns the measures of a run folder, the headline first.

    An older run, which has no ``problem.json``, is a classification.
    """
    if found := listed(read_problem(folder)):
        return found
    num_classes = read_flat_config(folder).get("dataset.num_classes")
    chance = 1 / num_classes if isinstance(num_classes, int) and num_classes > 0 else None
    return replace(ACCURACY, chance=chance), LOSS


def headline(folder: Path) -> Measure:
    """Returns the measure that verdicts, axes and tables of a run go by."""
    return measures(folder)[0]


def listed(problem: Mapping[str, Any]) -> tuple[Measure, ...]:
    """Returns the measures that the facts of a problem list, none where they list none.

    Raises ValueError for measures that nobody could read off.
    """
    found = problem.get("measures")
    if not isinstance(found, Sequence):
        return ()
    named = [facts for facts in found if isinstance(facts, Mapping) and "name" in facts]
    measures = tuple(map(Measure.from_facts, named))
    for measure in measures:
        texts = (measure.name, measure.unit)
        numbers = (measure.scale, 0 if measure.chance is None else measure.chance)
        if (
            not all(isinstance(text, str) for text in texts)
            or not all(isinstance(v, (int, float)) and abs(v) < BEYOND for v in numbers)
            or measure.better not in ("higher", "lower")
        ):
            raise ValueError(
                f"problem.json lists {str(measure.facts())[:200]}, which is no measure"
            )
    return measures


@dataclass(frozen=True)
class Ending:
    """What a run's last tickets reached on the test split, as means over ``num`` replicates."""

    measure: Measure
    sparsity: float | None
    value: float | None  # None where no replicate has one: all have diverged
    num: int


def ending(folder: Path) -> Ending:
    """Returns what the last round's tickets of a run reached."""
    rows, measure = last_tickets(folder), headline(folder)
    values = _numbers(rows, f"test_{measure.name}")
    return Ending(measure, _mean(_numbers(rows, "sparsity")), _mean(values), len(values))


def _numbers(rows: Sequence[Mapping[str, Any]], field: str) -> list[float]:
    found = (row.get(field) for row in rows)
    known = (v for v in found if isinstance(v, (int, float)) and not isinstance(v, bool))
    return [value for value in known if abs(value) < BEYOND]


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
