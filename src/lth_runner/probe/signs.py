"""Whether weights keep the sign they start with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from lth_runner.mask import Mask
from lth_runner.state import State
from lth_runner.task import Task
from lth_runner.ticket import Past, Trained


@dataclass(frozen=True)
class Signs:
    """Share of weights, non-zero at the start, whose sign is the same at the end.

    ``sign_preservation``: this network over its own mask. ``sign_preservation_dense``: the dense
    network over all prunable weights. ``sign_preservation_dense_on_ticket``: the dense network
    over this network's mask (Zhou et al., NeurIPS 2019, arXiv 1905.01067).
    """

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, float]]:
        yield (
            "sign_preservation",
            sign_preservation(trained.ticket.masked, trained.weights, trained.mask),
        )
        dense = past[0] if past else trained
        if dense.ticket.mask.num_kept < dense.ticket.mask.num_prunable:
            return  # a search that prunes before its first training has no dense one
        start, end = dense.ticket.masked, dense.weights
        yield "sign_preservation_dense", sign_preservation(start, end, task.dense())
        yield "sign_preservation_dense_on_ticket", sign_preservation(start, end, trained.mask)


def sign_preservation(start: State, end: State, within: Mask) -> float:
    """Share of ``within``, non-zero at the start, where sign(end) = sign(start); NaN if none is."""
    same = total = 0
    for name, kept in within.items():
        counted = kept & (start[name] != 0)
        same += int((counted & (start[name].sign() == end[name].sign())).sum())
        total += int(counted.sum())
    return same / total if total else math.nan
