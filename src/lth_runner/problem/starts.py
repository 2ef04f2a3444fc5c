"""The check that what a network starts from is a draw: a function of the seed, and of nothing else.

A constructor may load a file, seed a stream itself, or draw from one that nobody seeds.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lth_runner.problem.task import Task
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.listed import listed
from lth_runner.values.state import State

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
    first, second = (_prints(stock.fresh(seed)) for seed in (task.seed, task.seed + 1))
    _refuse_two_starts(first, _prints(stock.fresh(task.seed)))
    if stock.held != replace(stock).held:
        raise UserError(
            "the model holds other numbers besides its weights when it is built again (plain "
            f"attributes, or buffers that are not persistent): {_SEEDED}"
        )
    names = stock.prunable or tuple(name for name, one in first.items() if one.num_axes > 1)
    fixed = [name for name in names if first[name] == second[name]]
    if len(fixed) < len(names):
        loaded = [name for name in fixed if not first[name].is_constant]
        if loaded:  # not those that a law makes all 0 or all 1
            log.warning(
                "warning: %s are the same for every seed, by the model's own code: replicates "
                "share them, and where weights are drawn anew they stay as they are",
                listed(loaded),
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


@dataclass(frozen=True)
class _Print:
    """What tells the values of one tensor from another's, kept in place of them."""

    sha256: str
    num_axes: int
    is_constant: bool


def _prints(start: State) -> dict[str, _Print]:
    return {
        name: _Print(
            states.fingerprint({name: value}),
            value.ndim,
            not value.numel() or bool((value == value.reshape(-1)[0]).all()),
        )
        for name, value in start.items()
    }


def _refuse_two_starts(one: Mapping[str, _Print], other: Mapping[str, _Print]) -> None:
    """Refuses weights that are not the same when they are drawn again by the same seed."""
    names = [name for name in one if one[name] != other[name]]
    if names:
        raise UserError(
            f"the model starts from other weights when it is built again by the same seed: "
            f"{listed(names)}: {_SEEDED}"
        )
