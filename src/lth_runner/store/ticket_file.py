"""Tickets as files, written and read back into a plain module with one call each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from lth_runner.problem.task import Task
from lth_runner.search.ticket import Start, Ticket
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State

FORMAT = "1"


class Subnetwork(Protocol):
    """What is written of a ticket: its mask, and what the training starts from."""

    @property
    def mask(self) -> Mask: ...
    @property
    def masked(self) -> State: ...
    @property
    def start(self) -> Start: ...


@dataclass(frozen=True)
class StockTicket:
    """A ticket of a task in other coordinates, as the stock network's own tensors.

    A pruned entry is what pruning gives back there, the origin's weight and not zero.
    """

    task: Task
    ticket: Ticket

    @property
    def mask(self) -> Mask:
        """The mask under the stock network's names."""
        return self.task.stock_names(self.ticket.mask)

    @property
    def masked(self) -> State:
        """What the training starts from, computed when asked for."""
        return self.task.merged(self.ticket.masked)

    @property
    def start(self) -> Start:
        """Where the training starts."""
        return self.ticket.start


@dataclass(frozen=True)
class TicketFile:
    """The contents of a file ``tickets/round-NN.safetensors``."""

    mask: Mask
    weights: State  # pruned ones exactly zero, or the origin's where deltas are pruned
    metadata: Mapping[str, Any]  # sparsity, seed, round, start_step, model, dataset


def save_ticket(path: str | Path, ticket: Subnetwork, facts: Mapping[str, Any]) -> None:
    """Writes ``mask.<name>`` (bool) and ``weights.<name>``, the state that training starts from.

    ``facts`` (seed, round, model, dataset, ...) go into the metadata as JSON, beside the sparsity,
    the start step and the format's version.
    """
    tensors = {f"mask.{name}": kept for name, kept in ticket.mask.items()}
    tensors |= {f"weights.{name}": value for name, value in ticket.masked.items()}
    own = {"sparsity": ticket.mask.sparsity, "start_step": ticket.start.step}
    metadata = {name: json.dumps(value) for name, value in (own | dict(facts)).items()}
    states.save(Path(path), tensors, {"format": FORMAT, **metadata})


def read_ticket(path: str | Path) -> TicketFile:
    """Reads a ticket file; it cannot run code. Raises UserError where it is none or damaged."""
    try:
        tensors, text = states.load(Path(path))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"there is no ticket file {path}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except states.Damaged as error:
        raise UserError(f"not a ticket file, or damaged: {error}") from error
    mask = {k.removeprefix("mask."): v for k, v in tensors.items() if k.startswith("mask.")}
    weights = {
        k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")
    }
    if not mask or not weights:
        raise UserError(f"{path} holds no ticket: mask.<name> and weights.<name> are expected")
    metadata = {key: _value(value) for key, value in text.items()}
    return TicketFile(Mask(mask), weights, metadata)


def load_ticket(path: str | Path, module: nn.Module) -> Mask:
    """Writes a ticket's starting weights into a module of the same network; returns its mask.

    Raises UserError where the module's tensors are not the ticket's.
    """
    ticket = read_ticket(path)
    try:
        states.write(module, ticket.weights)
    except (KeyError, RuntimeError) as error:
        raise UserError(f"{path} is a ticket of another network: {error}") from error
    return ticket.mask


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
