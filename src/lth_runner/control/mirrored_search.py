"""A search repeated on other data: its trainings there, and the masks that it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lth_runner.problem.task import Task
from lth_runner.search import Rewinding, Search
from lth_runner.search.ticket import Past, Ticket, Trained
from lth_runner.values import identity
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step

VERSION = 1  # of what is decided; kept masks of another are not read


class NoTicket(Exception):
    """Says why a search that found a ticket finds none when it decides otherwise."""


def next_mask(search: Search, task: Task, past: Past) -> Mask:
    """Finds the mask of the search's next ticket; raises NoTicket where there is none.

    Of a search that rewinds nothing is asked but its mask: what its ticket starts from may need
    trainings that the mask does not.
    """
    if isinstance(search, Rewinding):
        mask = search.decide(task, past)
    else:
        proposed = search.propose(task, past)
        mask = None if proposed is None else proposed.mask
    if mask is None:
        raise NoTicket("the search finds no ticket")
    return mask


@dataclass(frozen=True, eq=False)
class MirroredTraining:
    """A finished training as it would have been on another task's data (a ``Trained``).

    It is trained, through the Store, once something is asked that its ticket does not answer: the
    ticket, the clock and the weights at the start make no step. Raises NoTicket where that
    training diverges.
    """

    original: Trained
    task: Task
    ticket: Ticket

    @cached_property
    def _trained(self) -> Trained:
        trained = self.original.sibling(self.ticket, "random_data", self.task)
        if trained.diverged:
            raise NoTicket("a training that it goes by diverged")
        return trained

    @property
    def clock(self) -> Clock:
        return self.original.clock

    def at(self, step: Step) -> State:
        begins = step == self.ticket.start.step
        return self.ticket.masked if begins else self._trained.at(step)

    def derived(self, name: str, compute: Callable[[], State]) -> State:
        return compute()  # the mask that comes of it is kept

    @property
    def key(self) -> str:
        return self._trained.key

    @property
    def mask(self) -> Mask:
        return self._trained.mask

    @property
    def weights(self) -> State:
        return self._trained.weights

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        return self._trained.history

    @property
    def diverged(self) -> bool:
        return self._trained.diverged

    @property
    def reused(self) -> bool:
        return self._trained.reused

    @property
    def seconds(self) -> float:
        return self._trained.seconds

    def optimizer_at(self, step: Step) -> State:
        return self._trained.optimizer_at(step)

    def masking_at(self, step: Step) -> State:
        return self._trained.masking_at(step)

    def gradients(self, num_steps: int) -> Iterator[State]:
        return self._trained.gradients(num_steps)

    def sibling(self, ticket: Ticket, arm: str, task: Task | None = None) -> Trained:
        return self._trained.sibling(ticket, arm, task)


@dataclass(frozen=True)
class MirroredSearch:
    """A search repeated from its beginning on another task, round by round beside the true one.

    Its masks are kept beside the true trainings. ``name`` is all that makes ``task`` another, so
    that a mask found once asks for no data, no training and no score again.
    """

    search: Search
    task: Callable[[], Task]
    name: str

    @cached_property
    def _there(self) -> Task:
        return self.task()

    def mask(self, past: Past) -> Mask:
        """Finds the mask of the ticket that follows rounds like those of ``past``.

        Raises NoTicket where there is none.
        """
        if not past:
            return next_mask(self.search, self._there, past)
        shapes = {name: kept.shape for name, kept in past[0].ticket.mask.items()}
        asked = {"search": identity.describe(self.search), "round": len(past), "on": self.name}
        packed = past[-1].derived(
            f"mask-v{VERSION}-{identity.digest(asked, 16)}",
            lambda: next_mask(self.search, self._there, self._trainings(past)).packed(),
        )
        return Mask.unpacked({name: packed[name] for name in shapes}, shapes)

    def _trainings(self, past: Past) -> Past:
        found: list[MirroredTraining] = []
        for number, original in enumerate(past):
            ticket = self._ticket(past[:number], found)
            found.append(MirroredTraining(original, self._there, ticket))
        return found

    def _ticket(self, past: Past, before: Past) -> Ticket:
        if past and isinstance(self.search, Rewinding):
            return Ticket(self.mask(past), *self.search.start(self._there, before))
        proposed = self.search.propose(self._there, before)
        if proposed is None:
            raise NoTicket("the search finds no ticket")
        return proposed
