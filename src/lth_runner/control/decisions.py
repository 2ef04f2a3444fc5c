"""Arms with the mask that the ticket's own search finds when it decides otherwise."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from lth_runner.data import Data
from lth_runner.errors import UserError, nearest
from lth_runner.mask import Mask
from lth_runner.score import Score, Scores
from lth_runner.search import Search
from lth_runner.seeds import stream
from lth_runner.state import State
from lth_runner.task import Task
from lth_runner.ticket import Past, Ticket

CORRUPTIONS = ("labels", "pixels")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Invert:
    """The ticket's search with its score turned round: the most important weights go

    (Frankle et al., ICLR 2021, "Missing the Mark", arXiv 2009.08576). ``search`` is the run's own;
    where it trains between rounds, the choice of the round at hand is what is inverted. Raises
    UserError for a search that has no score.
    """

    search: Search

    def __post_init__(self) -> None:
        _need_score(self.search, "invert turns a score round")

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        search: Any = self.search
        inverted = dataclasses.replace(search, score=Inverted(search.score))
        return replace(ticket, mask=_mask(inverted, task, past))


@dataclass(frozen=True)
class Inverted:
    """Another score with its sign changed: the least important first."""

    score: Score

    def __call__(self, task: Task, weights: State, mask: Mask) -> Scores:
        return {name: -value for name, value in self.score(task, weights, mask).items()}


@dataclass(frozen=True)
class RandomData:
    """The ticket's search, deciding by corrupted training data; trained on the true ones.

    ``corrupt``: labels drawn uniformly, or pixels, each image's shuffled by itself (Su et al.,
    NeurIPS 2020, arXiv 2009.11094). ``search`` is the run's own; a score that reads no data gives
    the ticket again. Raises UserError for a search that has no score: what a training has found,
    it found by the true data.
    """

    search: Search
    corrupt: Literal["labels", "pixels"] = "labels"

    def __post_init__(self) -> None:
        if self.corrupt not in CORRUPTIONS:
            raise UserError(
                f"control.corrupt={self.corrupt!r}: {nearest(str(self.corrupt), CORRUPTIONS)}"
            )
        _need_score(self.search, "random_data asks a score again, by corrupted data")

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        corrupted = replace(task, data=self._corrupted(task.data, seed))
        mask = _mask(self.search, corrupted, past)
        if mask == ticket.mask and len(past) <= 1:  # said once
            log.warning(
                "warning: the score reads no %s (its mask is the same where they are corrupted): "
                "the arm is the ticket itself", self.corrupt,
            )  # fmt: skip
        return replace(ticket, mask=mask)

    def _corrupted(self, data: Data, seed: int) -> Data:
        inputs, labels = data.train
        draw = stream(seed, "random-data")
        if self.corrupt == "labels":
            drawn = torch.randint(data.num_classes, labels.shape, generator=draw)
            return replace(data, train=(inputs, drawn.to(labels)))
        flat = inputs.flatten(2) if inputs.ndim > 2 else inputs[:, None]
        order = torch.rand(len(flat), 1, flat.shape[2], generator=draw).argsort(2)
        moved = flat.gather(2, order.to(flat.device).expand(flat.shape))
        return replace(data, train=(moved.view(inputs.shape), labels))


def _need_score(search: Search, control: str) -> None:
    if getattr(search, "score", None) is None:
        raise UserError(
            f"control={control}, but this pruner's masks come out of a training and of no score: "
            "leave it out, as in control=[shuffle,reinit]"
        )


def _mask(search: Search, task: Task, past: Past) -> Mask:
    proposed = search.propose(task, past)
    if proposed is None:
        raise UserError(
            f"{type(search).__name__} finds a ticket, but none for a control that decides "
            "otherwise: leave control=invert and control=random_data out"
        )
    return proposed.mask
