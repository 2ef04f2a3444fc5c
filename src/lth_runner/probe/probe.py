"""The seam for probes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Trained

# a number; numbers by name, as by layer; or a curve: all go into the row as JSON has them
Value = float | Mapping[str, float] | Sequence[float]


class Probe(Protocol):
    """Measures one finished training.

    ``past`` holds the replicate's earlier rounds, the dense network first; for the dense network
    itself it is empty. A probe reads; what it must train, it asks of ``trained.sibling``.
    """

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]: ...


@runtime_checkable
class Trains(Protocol):
    """A probe or a control that trains networks of its own."""

    def num_trainings(self, num_rows: Sequence[int]) -> int:
        """Counts the trainings that it adds to a replicate at most, given its rows by round."""


def added_trainings(part: object, num_rows: Sequence[int]) -> int:
    """Counts the trainings that a probe or a control adds to a replicate at most: none, mostly."""
    return part.num_trainings(num_rows) if isinstance(part, Trains) else 0
