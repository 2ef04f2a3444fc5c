"""Controls with the ticket's mask over other weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from lth_runner.problem.gaussian import rho_name
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Past, Ticket
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import derive, stream
from lth_runner.values.state import State

log = logging.getLogger(__name__)

VALUES = ("fresh", "permuted")
SIGNS = ("drawn", "kept")
LARGEST = 1e3  # of what weights are set to or moved by; networks start with some hundredths


@dataclass(frozen=True)
class Reinit:
    """Lays the mask over a fresh draw of the weights.

    A new network all through: its normalisation is that of the fresh draw, and no optimizer state
    of the old one comes along (Frankle & Carbin, ICLR 2019, arXiv 1803.03635). values: ``fresh``,
    or ``permuted``, each prunable layer's own initial weights in another order, pruned ones among
    them. signs: as they are ``drawn``, or ``kept``, those of the ticket's weights. Both by Zhou et
    al., NeurIPS 2019, arXiv 1905.01067.
    """

    values: Literal["fresh", "permuted"] = "fresh"
    signs: Literal["drawn", "kept"] = "drawn"

    def __post_init__(self) -> None:
        for name, accepted in (("values", VALUES), ("signs", SIGNS)):
            if (value := str(getattr(self, name))) not in accepted:
                raise UserError(f"control.reinit.{name}={value!r}: {nearest(value, accepted)}")

    @property
    def draws_anew(self) -> bool:
        return self.values == "fresh"

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket | None:
        # another seed than the task's own, which would silently reproduce the ticket
        fresh = task.fresh(derive(seed, "reinit"))
        if self.values == "permuted":
            own = task.init()
            fresh |= {name: _permuted(own[name], seed, name) for name in ticket.mask}
        if self.signs == "kept":
            weights = ticket.weights
            fresh |= {n: torch.copysign(fresh[n], weights[n]) for n in ticket.mask}
        arm = replace(ticket, weights=fresh, start=replace(ticket.start, optimizer={}))
        return _if_another(arm, ticket, "reinit")


def _permuted(values: Tensor, seed: int, name: str) -> Tensor:
    order = torch.randperm(values.numel(), generator=stream(seed, "reinit", name))
    return values.reshape(-1)[order].view_as(values)


@dataclass(frozen=True)
class Noise:
    """Adds Gaussian noise to the kept weights: w + size * s * N(0, 1).

    s is each layer's standard deviation of the kept weights about 0, sqrt(mean w^2); with
    ``relative`` false it is 1. How far the start may move and still be that ticket: Frankle,
    Schwab & Morcos, "The Early Phase of Neural Network Training", ICLR 2020, arXiv 2002.10365.
    """

    size: float = 0.01
    relative: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not 0 < self.size <= LARGEST:
            raise UserError(
                f"control.noise.size={self.size!r} must be above 0, 0.01 for example, and at most "
                f"{LARGEST:g}: beyond, nothing of the weights is left"
            )

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket | None:
        weights = ticket.weights
        for name, kept in ticket.mask.items():
            own = weights[name]
            unit = _deviation(own, kept) if self.relative else 1.0
            noise = torch.randn(own.shape, generator=stream(seed, "noise", name)).to(own)
            weights[name] = torch.where(kept, own + self.size * unit * noise, own)
        return _if_another(replace(ticket, weights=weights), ticket, "noise")


@dataclass(frozen=True)
class SignsOnly:
    """Keeps the signs of the kept weights, with one magnitude per layer: ``signed_constant``."""

    magnitude: float | None = None

    def __post_init__(self) -> None:
        if self.magnitude is not None and not 0 < self.magnitude <= LARGEST:
            raise UserError(
                f"control.signs.magnitude={self.magnitude!r} must be above 0 and at most "
                f"{LARGEST:g}, or null for each layer's own"
            )

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket | None:
        weights = signed_constant(ticket.weights, ticket.mask, self.magnitude)
        return _if_another(replace(ticket, weights=weights), ticket, "signs")


@dataclass(frozen=True)
class MagnitudesOnly:
    """Keeps the magnitudes of the kept weights, with signs drawn at random.

    Zhou et al., NeurIPS 2019, arXiv 1905.01067.
    """

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket | None:
        weights = random_signs(ticket.weights, ticket.mask, seed)
        return _if_another(replace(ticket, weights=weights), ticket, "magnitudes")


@dataclass(frozen=True)
class ShuffledWeights:
    """Permutes the kept weights' values within each layer, under the same mask.

    A Gaussian weight moves with its width.

    "Reshuffle" of Zhou et al., NeurIPS 2019, arXiv 1905.01067; Su et al., NeurIPS 2020, arXiv
    2009.11094.
    """

    def __call__(self, task: Task, ticket: Ticket, past: Past, seed: int) -> Ticket | None:
        weights = ticket.weights
        for name, kept in ticket.mask.items():
            num = int(kept.sum())
            order = torch.randperm(num, generator=stream(seed, "shuffle-weights", name))
            for one in filter(weights.__contains__, (name, rho_name(name))):
                weights[one] = weights[one].masked_scatter(kept, weights[one][kept][order])
        return _if_another(replace(ticket, weights=weights), ticket, "shuffle_weights")


def _if_another(arm: Ticket, ticket: Ticket, control: str) -> Ticket | None:
    """Gives an arm that starts elsewhere than its ticket, and none beside weights that are all 0.

    So it is where deltas are trained and all start at 0: there is nothing to draw anew or permute.
    """
    own, changed = ticket.weights, arm.weights
    zero = not any(bool(own[name].any()) for name in ticket.mask)
    if not zero or any(not torch.equal(value, own[name]) for name, value in changed.items()):
        return arm
    log.warning(
        "warning: control  %s is left out: all covered weights start at 0, so that it would be "
        "the ticket itself", control,
    )  # fmt: skip
    return None


def signed_constant(weights: State, mask: Mask, magnitude: float | None = None) -> State:
    """Sets the kept weights to sign(w) * c and leaves exact zeros alone.

    c is ``magnitude``, or each layer's standard deviation of the kept weights about 0,
    sqrt(mean w^2), which leaves the sum of squares as it is. Zhou et al., NeurIPS 2019, arXiv
    1905.01067, take that of the whole layer's initial weights.
    """
    changed: State = {}
    for name, kept in mask.items():
        size = _deviation(weights[name], kept) if magnitude is None else magnitude
        changed[name] = torch.where(kept, weights[name].sign() * size, weights[name])
    return weights | changed


def random_signs(weights: State, mask: Mask, seed: int) -> State:
    """Multiplies |w| of the kept weights by -1 or 1, each with probability 1/2."""
    changed: State = {}
    for name, kept in mask.items():
        coins = torch.randint(2, kept.shape, generator=stream(seed, "signs", name))
        drawn = weights[name].abs() * (2 * coins - 1)
        changed[name] = torch.where(kept, drawn, weights[name])
    return weights | changed


def _deviation(weights: Tensor, kept: Tensor) -> float:
    """Computes the deviation about 0, the mean of every initial law: of one weight too."""
    values = weights[kept].double()
    return float(values.square().mean().sqrt()) if values.numel() else 0.0
