"""A training batch in the pieces that pass through a network one after another."""

from __future__ import annotations

from collections.abc import Iterator

from lth_runner.problem.objective import Objective
from lth_runner.values import tree
from lth_runner.values.tree import Batch

Share = float | None  # of the batch's loss; None: the piece is the whole batch


def pieces(
    batch: Batch,
    objective: Objective,
    size: int | None,
    *,
    terms: float | None = None,
    num_passes: int = 1,
    num_draws: int = 1,
) -> Iterator[tuple[Share, Batch]]:
    """Goes through a batch by at most ``size`` samples, each piece with its share of the loss.

    The loss is a mean of terms (targets, tokens), and a piece's share is that of its terms in
    ``terms``, the whole batch's where none are given. ``num_passes``: at least so many pieces,
    those that there are no samples for with a share of 0. ``num_draws``: the batch so many times,
    for a mean over as many draws of the weights.
    """
    for _ in range(num_draws):
        for share, piece in _once(batch, objective, size, terms, num_passes):
            whole = 1.0 if share is None else share
            yield share if num_draws == 1 else whole / num_draws, piece


def _once(
    batch: Batch, objective: Objective, size: int | None, terms: float | None, num_passes: int
) -> Iterator[tuple[Share, Batch]]:
    if size is None and terms is None:
        yield None, batch
        return
    inputs, targets = (tree.split(part, size or tree.length(part)) for part in batch)
    counts = [objective.weight(part) for part in targets]
    whole = (sum(counts) if terms is None else terms) or 1
    for count, *piece in zip(counts, inputs, targets, strict=True):
        yield count / whole, (piece[0], piece[1])
    for _ in range(len(counts), num_passes):
        yield 0.0, (inputs[-1], targets[-1])
