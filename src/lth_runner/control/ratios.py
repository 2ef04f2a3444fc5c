"""Controls of partial low-rank adapters: other numbers of rows and columns, or chosen ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lth_runner.problem.low_rank import pairs
from lth_runner.problem.task import Task
from lth_runner.search.partial_lora import check_pairs, drawn, even, kept_lines, lines_of
from lth_runner.search.partial_lora.lines import best, top_energies
from lth_runner.search.rewind import Rate
from lth_runner.search.ticket import Past, Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import derive, stream
from lth_runner.values.steps import Clock


@dataclass(frozen=True)
class EvenRatios:
    """Draws as many rows and columns in all, of every layer the same share."""

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for a network without low-rank adapters."""
        check_pairs(task, "control=even_ratios")

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        total = sum(kept_lines(ticket.mask, "control=even_ratios").values())
        return ticket.under(drawn(task.dense(), even(lines_of(task.dense()), total), seed))


@dataclass(frozen=True)
class ShuffledRatios:
    """Draws rows and columns with the layers' ratios given to others, among equal shapes.

    So as many are trained in all, and in each kind of matrix. No order is the old one where two
    ratios differ.
    """

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for a network without two adapters of one shape."""
        check_pairs(task, "control=shuffled_ratios")
        if all(len(alike) < 2 for alike in _alike(task)):
            raise UserError(
                "control=shuffled_ratios gives a layer's ratio to another of the same shape, and "
                "no two targets have one shape: leave it out"
            )

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        own = kept_lines(ticket.mask, "control=shuffled_ratios")
        given, names = dict(own), pairs(task.prunable)
        for alike in _alike(task):
            ratios = [tuple(own[name] for name in names[weight]) for weight in alike]
            order = _another_order(ratios, derive(seed, "ratios", alike[0]))
            for weight, place in zip(alike, order, strict=True):
                given |= dict(zip(names[weight], ratios[place], strict=True))
        return ticket.under(drawn(task.dense(), given, seed))


@dataclass(frozen=True)
class Targeted:
    """Keeps as many rows and columns of each layer, those of the top singular directions.

    Of theta_0 = U diag(s) V^T, and of as many directions as the adapter's rank: the rows with the
    largest sum U_ij^2 s_j^2, the columns with the largest sum V_ij^2 s_j^2.
    """

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for a network without low-rank adapters."""
        check_pairs(task, "control=targeted")

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        rank = check_pairs(task, "control=targeted").rank
        lines = kept_lines(ticket.mask, "control=targeted")
        return ticket.under(best(task.dense(), lines, top_energies(task, rank), seed))


def _alike(task: Task) -> list[list[str]]:
    """Lists the weights that have a pair, those whose pairs have equal shapes together."""
    dense, found = task.dense(), dict[tuple[torch.Size, ...], list[str]]()
    for weight, names in pairs(task.prunable).items():
        found.setdefault(tuple(dense[name].shape for name in names), []).append(weight)
    return list(found.values())


def _another_order(values: list[tuple[int, ...]], seed: int) -> list[int]:
    """Draws an order in which the values stand otherwise, where they are not all one."""
    draw = stream(seed, "order")
    while True:
        order = torch.randperm(len(values), generator=draw).tolist()
        if len(set(values)) < 2 or [values[place] for place in order] != values:
            return order
