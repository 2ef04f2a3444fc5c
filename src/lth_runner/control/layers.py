"""A control whose layers stand in another order."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import torch

from lth_runner.control.masks import unpruned
from lth_runner.problem.task import Task
from lth_runner.search.rewind import Rate
from lth_runner.search.ticket import Past, Ticket
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream
from lth_runner.values.state import State
from lth_runner.values.steps import Clock

_NUMBERED = re.compile(r"(?:(.+?)\.)?(\d+)\.(.+)")  # a network may be a list itself
Block = tuple[str, str]  # a list of layers, and a layer's number in it


@dataclass(frozen=True)
class ShuffledLayers:
    """Puts whole layers in another order and leaves the ticket's mask where it is.

    A layer is what has one number in a list, all of whose tensors move with it: weights, biases
    and norms. Those of a list that have tensors of the same names and shapes change places, and no
    order is the old one. The optimizer begins anew. Raises UserError for a network without such
    layers, and where what the mask would keep are zeros, as in a ticket's file. The control of the
    code published with Chen et al., NeurIPS 2020, arXiv 2007.12223.
    """

    def check(self, task: Task, clock: Clock, rate: Rate) -> None:
        """Raises UserError for a network that has no layers to change places."""
        if not alike(task.init(), task.dense()):
            raise UserError(
                "control=shuffle_layers puts layers of a list in another order, those of equal "
                "shapes, and this network has none that a mask covers: leave it out"
            )

    def check_ticket(self, task: Task, ticket: Ticket, past: Past) -> None:
        """Raises UserError where the mask would keep weights that came as zeros."""
        self(task, ticket, past, 0)

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        weights = unpruned(ticket, past).weights
        moved = dict(weights)
        for layers in alike(weights, ticket.mask):
            blocks = _blocks(weights)
            for to, place in zip(layers, _another_order(len(layers), seed, layers[0]), strict=True):
                other = blocks[layers[place]]
                moved |= {full: weights[other[name]] for name, full in blocks[to].items()}
        _refuse_zeros(ticket, moved)
        return replace(ticket, weights=moved, start=replace(ticket.start, optimizer={}))


def _refuse_zeros(ticket: Ticket, moved: State) -> None:
    """Raises UserError where many a kept weight would be 0, and is not in the ticket."""
    own = ticket.weights
    for name, kept in ticket.mask.of_weights().items():
        new = int((moved[name][kept] == 0).sum()) - int((own[name][kept] == 0).sum())
        if new > 0.01 * kept.sum():
            raise UserError(
                f"control=shuffle_layers would keep weights of {name} that are 0 where they come "
                "from, since the ticket's mask removes them there: take pruner.weights=own, or "
                "leave shuffle_layers out"
            )


def alike(weights: State, covered: Collection[str]) -> list[list[Block]]:
    """Lists the layers that may change places: of one list, covered, of equal names and shapes."""
    found: dict[tuple[object, ...], list[Block]] = {}
    for block, tensors in _blocks(weights).items():
        if any(name in covered for name in tensors.values()):
            shapes = sorted((name, weights[full].shape) for name, full in tensors.items())
            found.setdefault((block[0], *shapes), []).append(block)
    return [layers for layers in found.values() if len(layers) > 1]


def _blocks(weights: State) -> Mapping[Block, Mapping[str, str]]:
    """Finds the numbered layers: (list, number) -> name within the layer -> full name."""
    found: dict[Block, dict[str, str]] = {}
    for full in weights:
        if (match := _NUMBERED.fullmatch(full)) is not None:
            where, number, name = match.groups()
            found.setdefault((where or "", number), {})[name] = full
    return found


def _another_order(num: int, seed: int, first: Block) -> list[int]:
    """Draws an order of ``num`` layers in which at least one has moved."""
    draw = stream(seed, "shuffle-layers", *first)
    while True:
        order = torch.randperm(num, generator=draw).tolist()
        if order != list(range(num)):
            return order
