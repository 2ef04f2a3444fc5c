"""Controls whose mask is what the ticket's own search finds when it decides otherwise."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch

from lth_runner.control.masks import permuted, unpruned, whole
from lth_runner.control.mirrored_search import MirroredSearch, NoTicket, next_mask
from lth_runner.problem.data import Data
from lth_runner.problem.requirements import Classification, classification
from lth_runner.problem.task import Task
from lth_runner.score import Score, Scores
from lth_runner.search import Search
from lth_runner.search.rewind import Rate
from lth_runner.search.ticket import Past, Ticket
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.state import State
from lth_runner.values.steps import Clock

CORRUPTIONS = ("labels", "pixels")
WITHOUT_SCORE = ("refuse", "leave_out")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Invert:
    """Removes the most important weights, by the ticket's search with its score turned round.

    ``search`` is the run's own; where it trains between rounds, the choice of the round at hand is
    what is inverted. A search ``without_score`` is refused with a UserError, or the arm is left
    out. Frankle et al., ICLR 2021, "Missing the Mark", arXiv 2009.08576.
    """

    search: Search
    without_score: Literal["refuse", "leave_out"] = field(default="refuse", compare=False)

    def __post_init__(self) -> None:
        if self.without_score not in WITHOUT_SCORE:
            raise UserError(
                f"control.invert.without_score={self.without_score!r}: "
                f"{nearest(str(self.without_score), WITHOUT_SCORE)}"
            )
        if self.obstacle is not None and self.without_score == "refuse":
            raise UserError(
                f"control=invert turns a score round, but {self.obstacle}: choose others, as "
                "control=[shuffle,reinit,random_data], or control.invert.without_score=leave_out"
            )

    @property
    def obstacle(self) -> str | None:
        """Says why there can be no such arm; None where there can."""
        if getattr(self.search, "score", None) is not None:
            return None
        return "this pruner's masks come of no score"

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket | None:
        search: Any = self.search
        inverted = dataclasses.replace(search, score=Inverted(search.score))
        try:
            return ticket.under(next_mask(inverted, task, past))
        except NoTicket as reason:
            _tell("invert", task, past, reason)
            return None


@dataclass(frozen=True)
class Inverted:
    """Turns another score's sign round, so that the least important weights stay."""

    score: Score

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        return {name: -value for name, value in self.score(task, weights, mask).items()}


@dataclass(frozen=True)
class RandomData:
    """Lets the ticket's search decide by corrupted training data, and trains on the true ones.

    The whole decision is made again: every training that the search goes by is done on the
    corrupted data, from the first round on, unless nothing of it is asked but its initial
    weights. ``corrupt``: labels drawn uniformly, or pixels, each image's shuffled by itself (Su et
    al., NeurIPS 2020, arXiv 2009.11094), in the same way in every round. ``search`` is the run's
    own; one that reads no data gives the ticket again. Where the search finds no ticket, or a
    training diverges, there is no arm, and a warning says so. How many weights stay may be part of
    what is decided.
    """

    search: Search
    corrupt: Literal["labels", "pixels"] = "labels"

    def __post_init__(self) -> None:
        if self.corrupt not in CORRUPTIONS:
            raise UserError(
                f"control.random_data.corrupt={self.corrupt!r}: "
                f"{nearest(str(self.corrupt), CORRUPTIONS)}"
            )

    def num_trainings(self, num_rows: Sequence[int]) -> int:
        """Counts the trainings that it adds to a replicate at most, given its rows by round."""
        return len(num_rows) - 1

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket | None:
        corrupted = partial(self._corrupted, task)
        mirrored = MirroredSearch(self.search, corrupted, f"corrupted {self.corrupt}")
        try:
            mask = mirrored.mask(past)
        except NoTicket as reason:
            _tell("random_data", task, past, reason)
            return None
        if mask == ticket.mask and len(past) <= 1:  # said once
            log.info(
                "control  random_data: the decision reads no %s (its mask is the same where they "
                "are corrupted): the arm is the ticket itself", self.corrupt,
            )  # fmt: skip
        return whole("random_data", ticket, unpruned(ticket, past).under(mask))

    def check_ticket(self, task: Task, ticket: Ticket, past: Past) -> None:
        """Raises UserError where another mask would keep weights without values of their own."""
        weights = unpruned(ticket, past)
        if self.corrupt in getattr(self.search, "reads", ()):  # of a solver: another mask is found
            other = permuted(ticket.mask, 0, ticket.room)
            whole("random_data", ticket, weights.under(other))

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for a problem without what is to be corrupted."""
        self._parts(task)

    def _parts(self, task: Task) -> Classification:
        """Finds the samples to corrupt; those of pixels need labels beside them too."""
        return classification(task, f"control.random_data with corrupt={self.corrupt}")

    def _corrupted(self, task: Task) -> Task:
        """Gives the task other training data, drawn by its own seed, the same in every round."""
        return replace(task, data=self._other(self._parts(task), task.seed))

    def _other(self, known: Classification, seed: int) -> Data:
        data, inputs, labels = known.data, known.inputs, known.labels
        draw = stream(seed, "control", "random-data")
        if self.corrupt == "labels":
            drawn = torch.randint(known.num_classes, labels.shape, generator=draw)
            return replace(data, train=(inputs, drawn.to(labels)))
        flat = inputs.flatten(2) if inputs.ndim > 2 else inputs[:, None]
        order = torch.rand(len(flat), 1, flat.shape[2], generator=draw).argsort(2)
        moved = flat.gather(2, order.to(flat.device).expand(flat.shape))
        return replace(data, train=(moved.view(inputs.shape), labels))


def _tell(control: str, task: Task, past: Past, reason: NoTicket) -> None:
    log.warning(
        "warning: no %s arm in round %d of seed %d: deciding that way, %s",
        control, len(past), task.seed, reason,
    )  # fmt: skip
