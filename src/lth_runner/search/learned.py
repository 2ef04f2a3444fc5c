"""The search whose mask is learned in round 0, and whose rewound weights are trained under it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from lth_runner.problem.requirements import check as check_score
from lth_runner.problem.task import Task
from lth_runner.score import Score
from lth_runner.search.rewind import Rate, Rewind
from lth_runner.search.search import warn_of_empty_layers
from lth_runner.search.ticket import Past, Start, Ticket, Trained, dense_ticket
from lth_runner.search.untrained import Untrained, any_half
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.name_patterns import select
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Learned:
    """Takes the mask that round 0's masking learns; round 1 trains the rewound weights under it.

    Round 0 begins dense and ends sparse: it is a search, and no dense network to compare with.
    ``retrain``: whether there is a round 1. A masking that falls into ``rounds`` repeats its
    schedule in each of them, and the ticket is trained like the last: ``rewind.lr_clock=restart``
    starts where that begins, rewind so many steps later as weights go back to. ``rescale``: the
    rewound weights of masked layers are divided by sigma(``initial``), as the masking's are in the
    end; layers before a norm do not notice it but in their learning rate (continuous
    sparsification: Savarese et al., NeurIPS 2020, arXiv 1912.04427). ``demands``: a score that the
    masking goes by, for what it asks of the network.
    """

    rewind: Rewind = field(default_factory=Rewind)
    retrain: bool = True
    rounds: int = 1
    rescale: bool = True
    initial: float = 0.0
    exclude: Sequence[str] = ()
    demands: Score | None = None

    @property
    def num_rounds(self) -> int:
        return 2 if self.retrain else 1

    @property
    def num_dense(self) -> int:
        return 1

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for rounds and rewind steps that the training is too short for.

        And for a score that the task cannot serve.
        """
        if self.demands is not None:
            check_score(self.demands, task)
        select(self.exclude, task.prunable, "pruner.exclude")
        if self.rounds < 1:
            raise UserError(f"pruner.rounds={self.rounds}: give a whole number, at least 1")
        if self.rounds > clock.total:
            raise UserError(
                f"pruner.rounds={self.rounds} in a training of {clock.total} steps: lower it, or "
                "train longer"
            )
        if not self.retrain:
            return
        self.rewind.check(task, clock, rate)
        step = 0 if self.rewind.lr_clock == "restart" else self.rewind.at(clock)
        if self._last_round(clock) + step >= clock.total:
            raise UserError(
                f"rewind.step={self.rewind.step} is past the end of a round of "
                f"{clock.total - self._last_round(clock)} steps (pruner.rounds={self.rounds})"
            )

    def check_way_back(self, task: Task, clock: Clock, mask_by: Callable[[Step], Mask]) -> None:
        """Raises UserError for a step at which round 0 will have removed weights of those rewound.

        ``mask_by``: a mask that has removed as many of each tensor as round 0 has by a step.
        """
        if not self.retrain or self.rewind.weights != "rewind":
            return
        mask = mask_by(self.rewind.at(clock))
        for name in sorted(self.rewind.rewound(task) & set(task.prunable)):
            if not bool(mask[name].all()):
                raise self._no_way_back(name)

    def _no_way_back(self, name: str) -> UserError:
        return UserError(
            f"there is no going back to step {self.rewind.step}: by then the training that finds "
            f"the mask has removed weights of {name}. Set rewind.step=0it (for a late arm, "
            "control.late.step=0it), or a step before weights are removed"
        )

    def _last_round(self, clock: Clock) -> Step:
        return (self.rounds - 1) * clock.total // self.rounds

    def snapshots(self, clock: Clock) -> Sequence[Step]:
        return [self.rewind.at(clock)] if self.retrain else []

    def foreseen(self, task: Task, clock: Clock) -> Iterator[tuple[Ticket, Past]]:
        """Yields round 1's ticket behind a round 0 that has ended sparse."""
        if self.retrain:
            mask, whole = any_half(task.dense()), dense_ticket(task)
            past = [Untrained(task, whole, clock, mask)]
            yield Ticket(mask, *self.start(task, past)), past

    def start(self, task: Task, past: Past) -> tuple[State, Start]:
        """Gives the rewound weights at the learned ones' scale, for a training as long as a round.

        Raises UserError for a step at which round 0 had removed some of them.
        """
        weights, start = self.rewind(task, past)
        self._refuse_what_is_lost(task, weights, past[0])
        late = replace(start, step=start.step + self._last_round(past[0].clock))
        return self._rescaled(task, weights, past[0]), late

    def decide(self, task: Task, past: Past) -> Mask | None:
        """Finds the mask that round 0 ended with; None where it is full."""
        mask = past[0].mask
        if mask.num_kept == mask.num_prunable:
            log.warning("warning: no weight was removed: there is no ticket to train")
            return None
        return warn_of_empty_layers(mask)

    def propose(self, task: Task, past: Past) -> Ticket | None:
        if not past:
            return dense_ticket(task)
        if len(past) >= self.num_rounds:
            return None
        mask = self.decide(task, past)
        return None if mask is None else Ticket(mask, *self.start(task, past))

    def _refuse_what_is_lost(self, task: Task, weights: State, searched: Trained) -> None:
        if self.rewind.weights != "rewind":
            return
        began = searched.ticket.weights
        for name in sorted(self.rewind.rewound(task) & set(task.prunable)):
            if bool(((weights[name] == 0) & (began[name] != 0)).any()):
                raise self._no_way_back(name)

    def _rescaled(self, task: Task, weights: State, searched: Trained) -> State:
        if not self.rescale or self.rewind.weights != "rewind":
            return weights  # a fresh draw has its scale, and trained ones have theirs by now
        trained, scale = searched.weights, 1 + math.exp(-self.initial)
        learned = set(task.prunable) - select(self.exclude, task.prunable, "pruner.exclude")
        return {
            # with rewind.only and rewind.layers some stay trained
            name: w * scale if name in learned and not torch.equal(w, trained[name]) else w
            for name, w in weights.items()
        }
