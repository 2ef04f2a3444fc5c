"""How many of the weights a moving mask has tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lth_runner.probe.probe import Value
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.state import State


@dataclass(frozen=True)
class Exploration:
    """Measures the share of the prunable weights that were active at some time of the training.

    In-time over-parameterisation (Liu et al., ICML 2021, arXiv 2102.02887). Of masks that regrow
    (SET, RigL), which carry it; others yield nothing. Costs a replay of the training unless its
    last step is a snapshot (``train.snapshots=[100%]``), and none where the mask has not moved.
    """

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        if trained.mask == trained.ticket.mask:
            return
        ever = trained.derived("exploration-v1", lambda: _ever(trained))
        if ever:
            explored = sum(int(value.sum()) for value in ever.values())
            yield "exploration", explored / trained.mask.num_prunable


def _ever(trained: Trained) -> State:
    state = trained.masking_at(trained.clock.total)
    return {name: value for name, value in state.items() if name.startswith("ever.")}
