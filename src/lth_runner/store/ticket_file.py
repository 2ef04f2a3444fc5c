"""Tickets as files, written and read back into a plain module with one call each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lth_runner.problem.coordinates import prunes_to_zero
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Start, Ticket
from lth_runner.values import state as states
from lth_runner.values.errors import Damaged, UserError
from lth_runner.values.json_files import loaded
from lth_runner.values.listed import listed
from lth_runner.values.mask import Mask
from lth_runner.values.state import State
from lth_runner.values.wrapped_names import matched, plain_names

FORMAT = "1"
ORIGIN = "origin"  # what is pruned has the origin's weight, and is not zero


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

    A pruned entry is what pruning gives back there, the origin's weight and not zero, or zero where
    the weights themselves are pruned. Of Gaussian weights it has the means.
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
    metadata: Mapping[str, Any]  # sparsity, seed, round, start_step, steps, model, dataset


def save_ticket(path: str | Path, ticket: Subnetwork, facts: Mapping[str, Any]) -> None:
    """Writes ``mask.<name>`` (bool) and ``weights.<name>``, the state that training starts from.

    ``facts`` (seed, round, model, dataset, ...) go into the metadata as JSON, beside the sparsity,
    the start step, the format's version and, where pruned weights are the origin's, a word on that.
    """
    tensors = {f"mask.{name}": kept for name, kept in ticket.mask.items()}
    tensors |= {f"weights.{name}": value for name, value in ticket.masked.items()}
    own: dict[str, Any] = {"sparsity": ticket.mask.sparsity, "start_step": ticket.start.step}
    if isinstance(ticket, StockTicket) and not prunes_to_zero(ticket.task.coordinates):
        own |= {"pruned": ORIGIN}
    metadata = {name: json.dumps(value) for name, value in (dict(facts) | own).items()}
    states.save(Path(path), tensors, {**metadata, "format": FORMAT})


def read_ticket(path: str | Path) -> TicketFile:
    """Reads a ticket file; it cannot run code.

    Raises UserError where it is none, damaged or of another format, and where mask and weights do
    not fit each other.
    """
    try:
        tensors, text = states.load(Path(path))
    except (FileNotFoundError, IsADirectoryError) as error:
        raise UserError(f"there is no ticket file {path}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except Damaged as error:
        raise UserError(f"not a ticket file, or damaged: {error}") from error
    if (found := text.get("format")) != FORMAT:
        raise UserError(
            f"{path} is of the format {found!r}, and this version of lth-runner reads {FORMAT}: "
            "read it with the version that wrote it"
        )
    mask = {k.removeprefix("mask."): v for k, v in tensors.items() if k.startswith("mask.")}
    weights = {
        k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")
    }
    if not mask or not weights:
        raise UserError(f"{path} holds no ticket: mask.<name> and weights.<name> are expected")
    metadata = {key: _value(value) for key, value in text.items()}
    for name, kept in mask.items():
        if (reason := _misfit(name, kept, weights, metadata.get("pruned"))) is not None:
            raise UserError(f"{path} holds no ticket: {reason}")
    return TicketFile(Mask(mask), weights, metadata)


def _misfit(name: str, kept: Tensor, weights: State, pruned: object) -> str | None:
    """Says why a mask does not fit its weights; None where it does."""
    if kept.dtype != torch.bool:
        return f"the mask of {name} is {_kind(kept)}, not bool"
    if name not in weights:
        return f"it has a mask of {name} and no weights of that name"
    if kept.shape != weights[name].shape:
        shapes = f"{tuple(kept.shape)}, and its weights {tuple(weights[name].shape)}"
        return f"the mask of {name} has the shape {shapes}"
    num = int((weights[name][~kept] != 0).sum())
    if num and pruned != ORIGIN:
        return f"{num} of the weights of {name} that the mask removes are not zero"
    return None


def load_ticket(path: str | Path, module: nn.Module) -> Mask:
    """Writes a ticket's weights into a module of the same network; returns its mask.

    They are those that training starts from or, of a ticket that is used untrained, those that it
    is used with. Modules that torch.compile or a parallel wrapper holds are written to as well; the
    mask has the names of the module's own parameters. Nothing is written unless all fits. Raises
    UserError where the module's tensors are not the ticket's, of another shape or precision, or on
    the meta device.
    """
    ticket = read_ticket(path)
    own = plain_names(module)
    held = matched(ticket.weights, own)
    if own.keys() != held.keys():
        differ = [
            f"{what} {listed(sorted(names))}"
            for what, names in (("it lacks", own.keys() - held), ("it has", held.keys() - own))
            if names
        ]
        raise UserError(
            f"{path} is a ticket of another network: {', and '.join(differ)}"
            + _where_it_fits(module, ticket.weights)
        )
    tensors = dict(states.named_tensors(module))
    for name in own:
        _refuse_other(path, name, ticket.weights[held[name]], tensors[own[name]])
    states.write(module, {own[name]: ticket.weights[held[name]] for name in own})
    return Mask({own[name]: ticket.mask[held[name]] for name in own if held[name] in ticket.mask})


def _where_it_fits(module: nn.Module, weights: State) -> str:
    """Names the part of a module that a ticket fits, where it is one: a wrapper's, for example."""
    for path, part in module.named_modules():
        own = plain_names(part)
        if path and own and own.keys() == matched(weights, own).keys():
            return f"; it is one of the module's part {path}: give that"
    return ""


def _refuse_other(path: str | Path, name: str, value: Tensor, own: Tensor) -> None:
    if value.shape != own.shape:
        raise UserError(
            f"{path} is a ticket of another network: {name} has shape {tuple(value.shape)}, the "
            f"module's has {tuple(own.shape)}"
        )
    if value.dtype != own.dtype:
        raise UserError(
            f"{path}: {name} is {_kind(value)}, the module's is {_kind(own)}, and nothing is cast "
            f"here: load it into a module of {_kind(value)}, as module.to(torch.{_kind(value)}) "
            "makes one, and cast that"
        )
    if hasattr(own, "full_tensor"):  # a DTensor
        raise UserError(
            f"the module's {name} is sharded over processes: load the ticket before the module is "
            "sharded"
        )
    if own.device.type == "meta":
        raise UserError(
            f"the module's {name} is on the meta device, which holds no values: make it a place "
            "first, as module.to_empty(device='cpu') does"
        )


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _value(text: str) -> Any:
    try:
        return loaded(text)
    except ValueError:
        return text
