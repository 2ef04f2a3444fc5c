"""How masks relate to one another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lth_runner.allocate import collapsed
from lth_runner.task import Task
from lth_runner.ticket import Past, Trained


@dataclass(frozen=True)
class Overlap:
    """Jaccard index of this mask and the ticket's mask of the round before."""

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        if past:
            yield "mask_overlap_previous", trained.mask.overlap(past[-1].mask)


@dataclass(frozen=True)
class Collapse:
    """Layers without a single weight: the network is cut there."""

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        yield "num_collapsed_layers", len(collapsed(trained.mask))
