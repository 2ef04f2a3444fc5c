"""Arms beside the ticket: each differs from it in exactly what its name says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch

from lth_runner.mask import Mask
from lth_runner.seeds import derive, stream
from lth_runner.task import Task
from lth_runner.ticket import Past, Ticket


class Control(Protocol):
    """Another ticket at the same density, start and schedule; ``seed`` draws what is random."""

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket: ...


@dataclass(frozen=True)
class Reinit:
    """The same mask over a fresh draw of the weights (Frankle & Carbin 2019, arXiv 1803.03635)."""

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        # another seed than the task's own, which would silently reproduce the ticket
        return replace(ticket, weights=task.init(derive(seed, "reinit")))


@dataclass(frozen=True)
class Shuffle:
    """Each layer's mask permuted: the same densities by layer, over the same weights

    (Frankle et al., ICLR 2021, "Missing the Mark", arXiv 2009.08576).
    """

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        return replace(ticket, mask=permuted(ticket.mask, seed))


@dataclass(frozen=True)
class Random:
    """As many weights, drawn uniformly from all prunable ones: densities by layer even out."""

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        num = ticket.mask.num_prunable
        kept = torch.zeros(num, dtype=torch.bool)
        kept[torch.randperm(num, generator=stream(seed, "random"))[: ticket.mask.num_kept]] = True
        parts = kept.split([value.numel() for value in ticket.mask.values()])
        mask = {
            name: part.view_as(ticket.mask[name])
            for name, part in zip(ticket.mask, parts, strict=True)
        }
        return replace(ticket, mask=Mask(mask))


def permuted(mask: Mask, seed: int) -> Mask:
    """Each tensor's kept positions drawn anew, as many as before: the layer-conditioned null."""
    return Mask(
        {
            name: kept.reshape(-1)[
                torch.randperm(kept.numel(), generator=stream(seed, "shuffle", name))
            ].view_as(kept)
            for name, kept in mask.items()
        }
    )
