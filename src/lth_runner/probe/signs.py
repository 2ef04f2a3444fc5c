"""Whether weights keep the sign they start with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from lth_runner.probe.probe import Value
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Trained
from lth_runner.values.mask import Mask
from lth_runner.values.state import State


@dataclass(frozen=True)
class Signs:
    """Measures the share of weights, non-zero at the start, whose sign is the same at the end.

    ``sign_preservation``: this network over its own mask. ``sign_preservation_dense``: the dense
    network over all prunable weights. ``sign_preservation_dense_on_ticket``: the dense network
    over this network's mask (Zhou et al., NeurIPS 2019, arXiv 1905.01067).

    With ``by_layer`` also ``sign_preservation_by_layer``, this network over its own mask in each
    layer that has such weights, ``sign_agreement_dense``: over this mask, the share of weights
    that end with the sign that the dense network's end with, and ``sign_agreement_chance``, what
    that would be if each network kept signs by itself: of weights that start with equal signs, a
    share a, q1 q2 + (1 - q1) (1 - q2), of the others q1 (1 - q2) + (1 - q1) q2, where q1 and q2
    are the shares of signs that this network and the dense one keep over the mask.
    """

    by_layer: bool = False

    def __call__(self, task: Task, past: Past, trained: Trained) -> Iterator[tuple[str, Value]]:
        start, end, mask = trained.ticket.masked, trained.weights, trained.mask
        yield "sign_preservation", sign_preservation(start, end, mask)
        if self.by_layer:
            yield "sign_preservation_by_layer", by_layer(start, end, mask)
        dense = past[0] if past else trained
        if dense.ticket.mask.num_kept < dense.ticket.mask.num_prunable:
            return  # a search that prunes before its first training has no dense one
        early, late = dense.ticket.masked, dense.weights
        yield "sign_preservation_dense", sign_preservation(early, late, task.dense())
        yield "sign_preservation_dense_on_ticket", sign_preservation(early, late, mask)
        if self.by_layer:
            yield "sign_agreement_dense", sign_preservation(late, end, mask)
            ours, theirs = (
                sign_preservation(*ends, mask) for ends in ((start, end), (early, late))
            )
            alike = ours * theirs + (1 - ours) * (1 - theirs)
            share = sign_preservation(early, start, mask)
            yield "sign_agreement_chance", share * alike + (1 - share) * (1 - alike)


def sign_preservation(start: State, end: State, within: Mask) -> float:
    """Measures the share of ``within``, non-zero at the start, where sign(end) = sign(start).

    NaN where none is.
    """
    counts = [_counts(start[name], end[name], kept) for name, kept in within.items()]
    same, total = sum(same for same, _ in counts), sum(total for _, total in counts)
    return same / total if total else math.nan


def by_layer(start: State, end: State, within: Mask) -> dict[str, float]:
    """Measures ``sign_preservation`` in each tensor that has a weight to count."""
    counts = {name: _counts(start[name], end[name], kept) for name, kept in within.items()}
    return {name: same / total for name, (same, total) in counts.items() if total}


def _counts(start: Tensor, end: Tensor, kept: Tensor) -> tuple[int, int]:
    counted = kept & (start != 0)
    return int((counted & (start.sign() == end.sign())).sum()), int(counted.sum())
