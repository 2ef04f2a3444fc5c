"""Differences between cells of runs: over their seeds, and over the test samples if asked."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from lth_runner.runs.evidence.by_sample import Table
from lth_runner.runs.evidence.estimate import (
    ROUNDING,
    Estimate,
    Sample,
    paired,
    sample,
    two_sample,
)
from lth_runner.runs.evidence.means import number
from lth_runner.runs.evidence.rows import TICKET, FinishedRun
from lth_runner.values.measure import Measure

NEIGHBOURS = 3  # rounds to either side whose variances steady a round's own

Cell = tuple[str, int]  # arm, round


def gain(measure: Measure, difference: Estimate) -> Estimate:
    """Turns a difference of values so that it is positive where the first is better."""
    return difference if measure.better == "higher" else -difference


class Differences:
    """Estimates gains between the cells of a run, whose variances steady each other.

    ``field``: of the rows; None is the headline measure's, the only one that is kept by sample.
    """

    def __init__(self, run: FinishedRun, field: str | None = None) -> None:
        self._run, self._field = run, field or run.outcome
        self._step = _smallest_step(run, self._field)
        self.is_paired = run.option("report", "paired") is True
        self._is_drawn = run.draws_samples and self._field == run.outcome
        self._samples: dict[Cell, Sample] = {}

    def __call__(self, first: Cell, second: Cell) -> Estimate | None:
        """Estimates by how much the first is better; None where one has no value."""
        return self.beside(first, self, second)

    def beside(self, first: Cell, other: Differences, second: Cell) -> Estimate | None:
        """Estimates by how much the first is better than a cell of another run, on the same task.

        Over seeds in common where both runs ask for it; None where one has no value.
        """
        ours, theirs = self._of(first), other._of(second)
        if not ours or not theirs:
            return None
        if self.is_paired and other.is_paired:
            found = paired(ours, theirs, self._paired_table(first, other, second))
        else:
            found = two_sample(self.sample(first), other.sample(second))
        return found and gain(self._run.measure, found)

    def sample(self, cell: Cell) -> Sample:
        """Estimates the mean and the variance of a round of an arm."""
        if cell not in self._samples:
            arm, round = cell
            rounds = self._run.rounds(arm)
            if self._run.dense_round is not None and self._run.dense_round not in rounds:
                rounds = (self._run.dense_round, *rounds)
            place = rounds.index(round)
            near = (*rounds[max(0, place - NEIGHBOURS) : place], *rounds[place + 1 :][:NEIGHBOURS])
            own, *others = (self._values(arm, one) for one in (round, *near))
            found = sample(own, [one for one in others if one], self._step)
            self._samples[cell] = replace(found, table=self._table(cell, found.n))
        return self._samples[cell]

    def _table(self, cell: Cell, num_seeds: int) -> Table | None:
        """Lays out what is kept by sample; None unless every seed with a value has it."""
        kept = list(self._run.by_sample(*cell).values()) if self._is_drawn else []
        return Table.of(kept) if len(kept) == num_seeds else None

    def _paired_table(self, first: Cell, other: Differences, second: Cell) -> Table | None:
        if not (self._is_drawn and other._is_drawn):
            return None
        ours, theirs = self._run.by_sample(*first), other._run.by_sample(*second)
        common = self._of(first).keys() & other._of(second).keys()
        if not common <= ours.keys() & theirs.keys():
            return None
        pairs = [(ours[seed], theirs[seed]) for seed in sorted(common)]
        alike = all(len(one) == len(other) for one, other in pairs)
        return Table.of([one - other for one, other in pairs]) if alike else None

    def _of(self, cell: Cell) -> dict[int, float]:
        return self._run.values(*cell, self._field)

    def _values(self, arm: str, round: int) -> list[float]:
        of = TICKET if round == self._run.dense_round else arm
        return list(self._of((of, round)).values())


def _smallest_step(run: FinishedRun, field: str) -> float:
    """Finds how coarse a share such as accuracy is: one image of the test set, say."""
    if run.measure.unit != "%":
        return 0.0
    values = sorted({v for row in run.rows if (v := number(row.get(field))) is not None})
    return min((b - a for a, b in pairwise(values) if b - a > ROUNDING), default=0.0)
