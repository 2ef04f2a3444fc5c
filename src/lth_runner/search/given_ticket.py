"""A ticket that comes from elsewhere: masks under names of its own, and what weights come along."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

from torch import Tensor

from lth_runner.values.errors import UserError, nearest
from lth_runner.values.steps import Step

Tensors = Mapping[str, Tensor]  # each may be read only when it is looked up
Weights = Literal["own", "ticket", "trained"]  # the task's own, or the ticket's: first or last


def check_weights(weights: str) -> None:
    """Raises UserError for what are none of these weights."""
    if weights not in get_args(Weights):
        raise UserError(f"pruner.weights={weights!r}: {nearest(str(weights), get_args(Weights))}")


@dataclass(frozen=True, eq=False)
class Kept:
    """Tensors by name that lie in files, which ``read`` opens; nothing of them is held here."""

    files: tuple[Path, ...]
    read: Callable[[], Tensors]

    @classmethod
    def missing(cls, reason: str) -> Kept:
        """Stands for tensors that did not come along: to read them raises UserError."""

        def refuse() -> Tensors:
            raise UserError(reason)

        return cls((), refuse)


@dataclass(frozen=True, eq=False)
class GivenTicket:
    """One ticket as its files have it.

    ``called``: what a message calls it. ``masks``: the kept weights by name (bool). ``start`` and
    ``trained``: the weights that its training began and ended with. ``by_zeros``: the masks are
    where weights are not zero, so that those of tensors which no mask covers mean nothing.
    ``number``: its round in the run that found it; ``start_step``: where its own training began.
    """

    called: str
    masks: Kept
    start: Kept
    trained: Kept
    by_zeros: bool = False
    number: int | None = None
    start_step: Step | None = None


class Tickets(Protocol):
    """Holds the tickets that a search is given, told apart by what is in them."""

    @property
    def num(self) -> int:
        """How many tickets a replicate has at most."""

    def check_seeds(self, seeds: Sequence[int]) -> None:
        """Raises UserError where there is no ticket for the replicates of some seeds."""

    def of(self, seed: int) -> Sequence[GivenTicket]:
        """Lists those of the replicate with a seed, in the order in which they are trained."""
