"""Controls that carry the ticket's mask over to whole channels or dense blocks."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from lth_runner.allocate.coarsen import Coarsen
from lth_runner.control.masks import unpruned, whole
from lth_runner.problem.answers import answer
from lth_runner.problem.requirements import check as check_score
from lth_runner.problem.task import Task
from lth_runner.score import Score
from lth_runner.score.channel import watch_norms
from lth_runner.search.rewind import Rate
from lth_runner.search.ticket import Past, Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Clock


@dataclass(frozen=True)
class Coarsened:
    """Trains, from where the ticket starts, a structured mask of about as many weights.

    ``coarsen`` makes it of the ticket's mask and of what the weights are worth by ``score``, as the
    training before has ended with them: most searches choose a mask by these (of given tickets they
    are the dense network's, or the ticket's before). Each kept weight is worth the same where
    ``score`` is None. What is filled starts at its rewound value. A channel that is gone sends
    nothing: the bias and the norm's scale and shift behind it start at zero, so that it can be cut
    out. Raises UserError where what is filled would start from zeros, as in a ticket's file.
    Chen et al., ICML 2022, arXiv 2202.04736.
    """

    coarsen: Coarsen
    score: Score | None = None

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for layers without channels and for a score that cannot be had."""
        if task.coordinates is not None:
            raise UserError(
                "a structured control removes whole channels of weights, and these are of other "
                f"coordinates ({type(task.coordinates).__name__}), where a removed one has the "
                "origin's weights, or a width: leave it out"
            )
        self.coarsen.check_layers(task)
        if self.score is not None:
            check_score(self.score, task)

    def check_ticket(self, task: Task, ticket: Ticket, past: Past) -> None:
        """Raises UserError where what is filled would have no values of its own."""
        self(task, ticket, past, 0)

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        if self.score is None:
            scores = {name: torch.ones(kept.shape) for name, kept in ticket.mask.items()}
        else:
            trained = past[-1].weights if past else ticket.weights
            scores = dict(self.score(task, ticket.mask(trained), ticket.mask))
        arm = unpruned(ticket, past).under(self.coarsen(ticket.mask, scores, seed))
        whole(self.coarsen.called, ticket, arm)
        return replace(arm, weights=silenced(task, arm.weights, arm.mask))


def silenced(task: Task, weights: State, mask: Mask) -> State:
    """Sets to zero what a channel without weights would send: its bias, its norm's scale and shift.

    The norms are those that read a layer's output unchanged, found by a forward pass. From zero
    they do not move behind a ReLU, whose gradient there is zero.
    """
    module = task.module().eval()
    norms, handles = watch_norms(module, mask)
    with torch.no_grad():
        answer(module, task.data.sample(1, 0)[0])
    for handle in handles:
        handle.remove()
    found = dict(weights)
    for name, kept in list(mask.of_weights().items())[:-1]:
        empty = ~kept.flatten(1).any(1)
        scale = norms.get(name)
        beside = [_beside(name), *([scale, _beside(scale)] if scale else [])]
        for vector in beside:
            if vector in found and found[vector].shape == empty.shape:
                own = found[vector]
                found[vector] = own.masked_fill(empty.to(own.device), 0)
    return found


def _beside(name: str) -> str:
    """Names the bias of the layer or norm that a weight belongs to."""
    path, dot, _ = name.rpartition(".")
    return f"{path}{dot}bias"
