"""Controls that keep other rows, as many in each tensor: of tokens, in an embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lth_runner.problem.coordinates import stock_name
from lth_runner.problem.task import Task
from lth_runner.problem.token_inputs import MASK, TOKENS, token_numbers
from lth_runner.search.ks_lottery import row_shifts, whole_rows
from lth_runner.search.ticket import Past, Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.ignored import IGNORED
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from lth_runner.values.tree import Tree


@dataclass(frozen=True)
class RandomRows:
    """Keeps as many rows of each tensor, drawn at random."""

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        def ranks(name: str, num: int) -> Tensor:
            return torch.rand(num, generator=stream(seed, "rows", name))

        return _of_rank(ticket, ranks)

    def check_ticket(self, task: Task, ticket: Ticket, past: Past) -> None:
        """Raises UserError for a ticket that does not keep whole rows."""
        _kept_rows(ticket.mask)


@dataclass(frozen=True)
class LowestRows:
    """Keeps as many rows of each tensor, those that training has moved least."""

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        shifts = row_shifts(task, past[0].weights)
        return _of_rank(ticket, lambda name, num: -shifts[name])


@dataclass(frozen=True)
class FrequentRows:
    """Keeps as many rows, those of the tokens that training data have most of."""

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        def ranks(name: str, num: int) -> Tensor:
            return _token_counts(task, num)[0].double()

        return _of_rank(ticket, ranks)

    def check(self, task: Task, clock: object, rate: object) -> None:
        """Raises UserError for data whose inputs are no tokens."""
        _check_tokens(task)


@dataclass(frozen=True)
class TemplateRows:
    """Keeps the rows of the tokens that stand in every training sample: its template.

    ``tokens``: their numbers, where these are named. There may be more of them than the ticket has,
    or fewer: ``num_kept`` of the row says it.
    """

    tokens: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.tokens is not None:
            object.__setattr__(self, "tokens", tuple(self.tokens))

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        rows = {name: self._rows(task, len(kept)) for name, kept in ticket.mask.items()}
        return ticket.under(whole_rows(rows, ticket.mask))

    def _rows(self, task: Task, num: int) -> Tensor:
        if self.tokens is None:
            _, num_with = _token_counts(task, num)
            return num_with == task.data.num_train
        return torch.zeros(num, dtype=torch.bool).index_fill(
            0, torch.tensor(self.tokens), value=True
        )

    def check(self, task: Task, clock: object, rate: object) -> None:
        """Raises UserError for tokens that have no row, and where no token is in every sample."""
        num = min(len(kept) for kept in task.dense().values())
        if self.tokens is None:
            _check_tokens(task)
            if not bool(self._rows(task, num).any()):
                raise UserError(
                    "control=template_rows: no token stands in every training sample; name those "
                    "of the template, control.template_rows.tokens=[13,278]"
                )
        elif not self.tokens or not all(0 <= token < num for token in self.tokens):
            raise UserError(
                f"control.template_rows.tokens={list(self.tokens)}: give numbers of tokens from 0 "
                f"to {num - 1}, or null for those that stand in every training sample"
            )


def _of_rank(ticket: Ticket, ranks: Callable[[str, int], Tensor]) -> Ticket:
    """Lays a mask of as many rows over a ticket's weights, those that rank highest."""
    rows = {}
    for name, kept in _kept_rows(ticket.mask).items():
        best = ranks(name, len(kept)).argsort(descending=True, stable=True)[: int(kept.sum())]
        rows[name] = torch.zeros_like(kept).index_fill(0, best, value=True)
    return ticket.under(whole_rows(rows, ticket.mask))


def _kept_rows(mask: Mask) -> dict[str, Tensor]:
    """Reads which rows a mask keeps; raises UserError where it keeps a part of one."""
    found = {}
    for name, kept in mask.items():
        rows = kept.reshape(len(kept), -1)
        if not torch.equal(rows.any(1), rows.all(1)):
            raise UserError(
                f"a control of rows stands beside a ticket that keeps whole ones, and this one "
                f"keeps parts of rows of {stock_name(name)}: choose pruner=ks_lottery, or "
                "control=random"
            )
        found[name] = rows.all(1)
    return found


def _are_read(inputs: Tree, targets: Tree, tokens: Tensor) -> Tensor:
    """Says which tokens are read: no padding, and none behind a sample's last target."""
    mask = inputs.get(MASK) if isinstance(inputs, Mapping) else None
    if mask is not None:
        return mask.cpu().bool()
    if not isinstance(targets, Tensor) or targets.shape != tokens.shape:
        return torch.ones_like(tokens, dtype=torch.bool)
    told = (targets != IGNORED).cpu().int()
    return told.flip(1).cumsum(1).flip(1) > 0


def _check_tokens(task: Task) -> None:
    inputs, _ = task.data.sample(1, 0)
    if token_numbers(inputs) is None:
        raise UserError(
            "rows by how often their token occurs need inputs of one tensor of token numbers, "
            f"[samples, length] (by name: {TOKENS}): choose control=random_rows"
        )


def _token_counts(task: Task, num: int) -> tuple[Tensor, Tensor]:
    """Counts each token in the training data: how often, and in how many samples."""
    often, with_it = torch.zeros(num, dtype=torch.int64), torch.zeros(num, dtype=torch.int64)
    for inputs, targets in task.evaluated("train"):
        tokens = token_numbers(inputs)
        assert tokens is not None
        read = _are_read(inputs, targets, tokens)
        often += torch.bincount(tokens[read], minlength=num)
        samples = torch.arange(len(tokens))[:, None].expand_as(tokens)
        present = torch.zeros(len(tokens), num, dtype=torch.bool)
        present[samples[read], tokens[read]] = True
        with_it += present.sum(0)
    return often, with_it
