"""The seam for instruments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from lth_runner.task import Task
from lth_runner.ticket import Past, Trained


class Probe(Protocol):
    """Measures one finished training.

    ``past`` holds the replicate's earlier rounds, the dense network first; for the dense network
    itself it is empty. A probe reads, and trains nothing.
    """

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]: ...
