"""The check that what a network starts from is a draw: a function of the seed, and of nothing else.

A constructor may load a file, seed a stream itself, or draw from one that nobody seeds.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch

from lth_runner.problem.task import Task
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.state import State

NAMED = 4  # parameters that a line names
log = logging.getLogger(__name__)


def check_starts(tasks: Sequence[Task], drawing: Sequence[str]) -> None:
    """Raises UserError where two seeds give one start that must differ, or one seed gives two.

    ``tasks`` are the replicates, ``drawing`` what asks for weights drawn anew. Says which weights
    are the same for every seed where only some are.
    """
    task = tasks[0]
    if task.is_shipped:
        return
    stock = replace(task, coordinates=None, biases=False, origin=None)
    first, second = stock.fresh(task.seed), stock.fresh(task.seed + 1)
    _refuse_two_starts(first, stock.fresh(task.seed))
    if stock.held != replace(stock).held:
        raise UserError(
            "the model holds other numbers besides its weights when it is built again (plain "
            f"attributes, or buffers that are not persistent): {_SEEDED}"
        )
    names = stock.prunable or tuple(name for name, value in first.items() if value.ndim > 1)
    fixed = [name for name in names if torch.equal(first[name], second[name])]
    if len(fixed) < len(names):
        loaded = [name for name in fixed if len(first[name].unique()) > 1]
        if loaded:  # not those that a law makes all 0 or all 1
            log.warning(
                "warning: %s are the same for every seed, by the model's own code: replicates "
                "share them, and where weights are drawn anew they stay as they are",
                _listed(loaded),
            )
        return
    if drawing:
        raise UserError(
            f"{drawing[0]} draws weights anew, but {_FIXED}, so that they would be the same again: "
            f"{_CURE}; or leave {drawing[0]} out"
        )
    if len(tasks) > 1 and task.origin is None:
        raise UserError(
            f"replicates={len(tasks)} are to start from {len(tasks)} draws, but {_FIXED}: {_CURE}; "
            "or set replicates=1"
        )
    if task.origin is None:
        log.warning("warning: %s", _FIXED)


_FIXED = (
    "the model starts from the same weights for every seed, since its own code loads or sets them "
    "or seeds the stream that they are drawn from"
)
_CURE = (
    "leave the seeding of torch, numpy and random to this program; or let the model draw its "
    "weights, and give those of a file by origin=file"
)


_SEEDED = (
    "draw them from the global streams of torch, numpy or Python's random, which are seeded for "
    "it; a generator of the model's own is to be seeded with torch.initial_seed()"
)


def _refuse_two_starts(one: State, other: State) -> None:
    """Refuses weights that are not the same when they are drawn again by the same seed."""
    names = [n for n in one if states.fingerprint({n: one[n]}) != states.fingerprint({n: other[n]})]
    if names:
        raise UserError(
            f"the model starts from other weights when it is built again by the same seed: "
            f"{_listed(names)}: {_SEEDED}"
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
