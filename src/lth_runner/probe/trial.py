"""The trial of a user's own probe on networks that nobody has trained, before any training."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from lth_runner.probe.measured import measured
from lth_runner.probe.probe import Probe
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket, Trained
from lth_runner.values.errors import UserError
from lth_runner.values.global_streams import all_seeded
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.steps import Clock, Step


def try_probe(key: str, probe: Probe, task: Task, clock: Clock, *, taken: Collection[str]) -> None:
    """Raises UserError where a probe fails, or gives no values, on untrained networks.

    It is asked for the dense network, and for one of which every second weight is pruned.
    ``taken`` are the names that a row has without probes. A probe of this program is not asked:
    tests hold it to that.
    """
    if type(probe).__module__.startswith("lth_runner."):
        return
    weights = task.init()
    dense = Untrained(task, Ticket(task.dense(), weights), clock)
    pruned = Untrained(task, Ticket(_half(task.dense()), weights), clock)
    try:
        with all_seeded(0, task.device):
            measured(probe, task, [], dense, taken=taken, told=key)
            measured(probe, task, [dense], pruned, taken=taken, told=key)
    except UserError:
        raise
    except Exception as error:  # a stranger's may raise anything
        said = " ".join(str(error).split())
        raise UserError(
            f"{key} cannot measure a network, tried before any training: "
            f"{type(error).__name__}: {said}"
        ) from error


def _half(dense: Mask) -> Mask:
    every_second = {}
    for name, kept in dense.items():
        flat = torch.arange(kept.numel()) % 2 == 0
        every_second[name] = flat.view(kept.shape)
    return Mask(every_second)


@dataclass(frozen=True)
class Untrained:
    """A training that changed nothing, asked what any training is asked (a ``Trained``)."""

    task: Task
    ticket: Ticket
    clock: Clock
    key: str = "untrained"
    diverged: bool = False
    reused: bool = False
    seconds: float = 0.0

    @property
    def mask(self) -> Mask:
        return self.ticket.mask

    @property
    def weights(self) -> State:
        return self.ticket.masked

    @cached_property
    def history(self) -> Sequence[Mapping[str, Any]]:
        found: dict[str, Any] = {"train_loss": 0.0, "learning_rate": 0.0}
        for split in ("val", "test"):
            figures = self.task.evaluate(self.weights, split)
            found |= {f"{split}_{name}": value for name, value in figures.items()}
        return [{"step": step, **found} for step in (0, self.clock.total)]

    def at(self, step: Step) -> State:
        return self.weights

    def optimizer_at(self, step: Step) -> State:
        return {}

    def masking_at(self, step: Step) -> State:
        return {}

    def gradients(self, num_steps: int) -> Iterator[State]:
        if num_steps:
            yield self.task.grad(self.weights, 1)

    def derived(self, name: str, compute: Callable[[], State]) -> State:
        return compute()

    def sibling(self, ticket: Ticket, arm: str, task: Task | None = None) -> Trained:
        return Untrained(task or self.task, ticket, self.clock)
