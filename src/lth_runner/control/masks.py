"""Controls with another mask, drawn at random, that keeps as many weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import Literal

import torch

from lth_runner.allocate import Uniform
from lth_runner.problem.gaussian import rho_name
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Ticket
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.listed import listed
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive, stream

SOURCES = ("fresh", "own")


@dataclass(frozen=True)
class Shuffle:
    """Permutes the mask within each layer: the same densities by layer, over the same weights.

    Frankle et al., ICLR 2021, "Missing the Mark", arXiv 2009.08576. ``weights``: the ticket's
    ``own``, of which see ``unpruned`` where they stay trained; or a ``fresh`` draw of all, with no
    optimizer state, as for tickets on other data (Morcos et al., NeurIPS 2019, arXiv 1906.02773).
    """

    weights: Literal["own", "fresh"] = "own"

    def __post_init__(self) -> None:
        _check_source("shuffle", self.weights)

    @property
    def draws_anew(self) -> bool:
        return self.weights == "fresh"

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        mask = permuted(ticket.mask, seed, ticket.room)
        if self.weights == "fresh":
            return _fresh(task, ticket, mask, seed)
        return whole("shuffle", ticket, unpruned(ticket, past).under(mask), can_draw=True)

    def check_ticket(self, task: Task, ticket: Ticket, past: Past) -> None:
        """Raises UserError where what the mask would keep has no values of its own."""
        self(task, ticket, past, 0)


@dataclass(frozen=True)
class Random:
    """Keeps as many weights, drawn uniformly from all prunable ones, so that layers even out.

    ``weights`` as in ``Shuffle``. Where a ticket keeps to a room, so do these and the others here.
    """

    weights: Literal["own", "fresh"] = "own"

    def __post_init__(self) -> None:
        _check_source("random", self.weights)

    @property
    def draws_anew(self) -> bool:
        return self.weights == "fresh"

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        room = ticket.mask if ticket.room is None else ticket.room
        free = torch.cat([value.reshape(-1) for value in room.values()])
        free = torch.ones_like(free) if ticket.room is None else free
        places, num = torch.nonzero(free).squeeze(1), ticket.mask.num_kept
        kept = torch.zeros(ticket.mask.num_prunable, dtype=torch.bool)
        drawn = torch.randperm(len(places), generator=stream(seed, "random"))
        kept[places[drawn[:num]]] = True
        parts = kept.split([value.numel() for value in ticket.mask.values()])
        mask = {
            name: part.view_as(ticket.mask[name])
            for name, part in zip(ticket.mask, parts, strict=True)
        }
        if self.weights == "fresh":
            return _fresh(task, ticket, Mask(mask), seed)
        return whole("random", ticket, unpruned(ticket, past).under(Mask(mask)), can_draw=True)

    def check_ticket(self, task: Task, ticket: Ticket, past: Past) -> None:
        """Raises UserError where what the mask would keep has no values of its own."""
        self(task, ticket, past, 0)


@dataclass(frozen=True)
class Even:
    """Keeps as many weights, drawn at random, in every layer the same share.

    "Even" of OpenLTH. Layers with a remainder keep one more, so that the sum is exact.
    """

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        scores = {
            name: torch.rand(kept.shape, generator=stream(seed, "even", name))
            for name, kept in ticket.mask.items()
        }
        spread = Uniform(dense_first=False)
        mask = spread(scores, ticket.mask.density, ticket.room or task.dense(), seed)
        return whole("even", ticket, unpruned(ticket, past).under(mask))

    def check_ticket(self, task: Task, ticket: Ticket, past: Past) -> None:
        """Raises UserError where what the mask would keep has no values of its own."""
        self(task, ticket, past, 0)


@dataclass(frozen=True)
class RescaledRandom:
    """Lays the mask of ``Random`` over weights of critical variance, 2 / d in each layer.

    With Var(w) = sigma^2 / fan_in, a ReLU layer of density d passes on chi = d * sigma^2 / 2 of
    a gradient's square; He's law, sigma^2 = 2, makes that d, and 2 / d makes it 1. d is each
    layer's own density under the drawn mask; biases keep their law. ``weights``: fresh, drawn
    from N(0, 2 / (d fan_in)) under a fresh draw of all else, with no optimizer state; or own, the
    ticket's times d^(-1/2), which is critical where the network was initialised by He's law.
    Normalisation undoes any such scale (He et al., ICCV 2015, arXiv 1502.01852).
    """

    weights: Literal["fresh", "own"] = "fresh"

    def __post_init__(self) -> None:
        _check_source("rescaled_random", self.weights)

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket:
        arm = Random("fresh")(task, ticket, past, seed)
        if self.weights == "own":
            kept = unpruned(ticket, past).under(arm.mask)
            arm = whole("rescaled_random", ticket, kept, can_draw=True)
        own = arm.mask.of_weights().layer_density()
        density = {n: d for n, d in own.items() if d}  # an empty one has none
        if self.weights == "own":
            scaled = {name: arm.weights[name] / d**0.5 for name, d in density.items()}
            return replace(arm, weights=arm.weights | scaled)
        fresh = task.fresh(derive(seed, "reinit"))
        drawn = {
            name: torch.randn(fresh[name].shape, generator=stream(seed, "rescaled", name))
            * (2 / (d * fresh[name][0].numel())) ** 0.5
            for name, d in density.items()
        }
        return replace(arm, weights=fresh | drawn)

    def check_ticket(self, task: Task, ticket: Ticket, past: Past) -> None:
        """Raises UserError where what the mask would keep has no values of its own."""
        self(task, ticket, past, 0)


def unpruned(ticket: Ticket, past: Past) -> Ticket:
    """Gives the ticket with what earlier rounds removed at its last trained value.

    Where weights stay trained between rounds (learning-rate rewinding, fine-tuning, the part that
    partial rewinding leaves), those that earlier rounds removed are zeros, and another mask would
    land on them. The published shuffles all rewind; here such an arm is a random pruning of the
    trained network. Rewound and fresh weights are whole, and come back as they are. Raises
    UserError for weights that were removed within the first training: they have no such value.
    """
    if not past or past[-1].mask.num_kept == past[-1].mask.num_prunable:
        return ticket
    weights, last = ticket.weights, past[-1].weights
    same = {n for n in ticket.mask if torch.equal(weights[n], last[n])}
    # a bias of which nothing is left is zero, as it was at many a start: it goes with the others
    mute = {n for n in same & ticket.mask.biases if not last[n].any()}
    if same - mute < ticket.mask.keys() - mute:
        same -= mute
    trained = {n: weights[n] for n in ticket.mask if n in same}
    if not trained:
        return ticket
    known = reduce(or_, (earlier.mask for earlier in past))
    if not all(known[name].all() for name in trained):
        raise UserError(
            "a control with another mask would start from weights that the first training "
            "removed: they have no trained value. Leave shuffle, random, even, rescaled_random, "
            "random_data, refill, refill_plus and regroup out (control=reinit keeps the mask), or "
            "rewind the weights (rewind=init)"
        )
    of = {name: name for name in trained} | {rho_name(n): n for n in trained}
    values = {name: weights[name] for name in of if name in weights}  # a Gaussian's width too
    for earlier in past:
        mask, ended = earlier.mask, earlier.weights
        values = {name: torch.where(mask[of[name]], ended[name], w) for name, w in values.items()}
    return replace(ticket, weights=weights | values)


def _check_source(name: str, source: str) -> None:
    if source not in SOURCES:
        raise UserError(f"control.{name}.weights={source!r}: {nearest(str(source), SOURCES)}")


def _fresh(task: Task, ticket: Ticket, mask: Mask, seed: int) -> Ticket:
    """Lays a mask over the draw of the weights that ``Reinit`` makes by the same seed."""
    weights = task.fresh(derive(seed, "reinit"))
    return replace(ticket, mask=mask, weights=weights, start=replace(ticket.start, optimizer={}))


def whole(name: str, ticket: Ticket, arm: Ticket, *, can_draw: bool = False) -> Ticket:
    """Gives the arm back; raises UserError where all that it has besides in a layer are zeros.

    So are those of a ticket's file that its mask removes. Numbers that all start at zero, as deltas
    do, may; so may those of a layer without any left, where others have their values. ``can_draw``:
    the control has ``weights=fresh``.
    """
    weights, matrices = arm.weights, [n for n in ticket.mask if arm.weights[n].ndim > 1]
    new = {n: weights[n][arm.mask[n] & ~ticket.mask[n]] for n in matrices}  # biases start at zero
    filled = [n for n in matrices if len(new[n])]
    zeros = [n for n in filled if not new[n].any()]
    begun = {n for n in matrices if weights[n][ticket.mask[n]].any()}
    wrong = zeros if zeros == filled and begun else [n for n in zeros if n in begun]
    if not wrong:
        return arm
    cure = f"control.{name}.weights=fresh draws weights for its mask, or " if can_draw else ""
    raise UserError(
        f"control={name} would keep weights of {listed(wrong)} that the ticket came with as zeros, "
        f"since its mask removes them: {cure}leave {name} out (control=reinit lays the ticket's "
        "mask over new weights)"
    )


def permuted(mask: Mask, seed: int, room: Mask | None = None) -> Mask:
    """Draws each tensor's kept positions anew, as many as before: the layer-conditioned null.

    ``room``: among those that it keeps.
    """
    found = {}
    for name, kept in mask.items():
        free = torch.ones_like(kept) if room is None else room[name]
        order = torch.randperm(int(free.sum()), generator=stream(seed, "shuffle", name))
        found[name] = torch.zeros_like(kept)
        found[name][free] = kept[free][order]
    return Mask(found)
