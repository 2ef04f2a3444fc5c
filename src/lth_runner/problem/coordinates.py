"""The numbers that a network is trained in, where its weights are computed from others."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lth_runner.problem.covers import Covers
from lth_runner.problem.objective import Objective
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.name_patterns import as_names, select
from lth_runner.values.own_class import own_class
from lth_runner.values.state import State


class Coordinates(Protocol):
    """Turns a network with its starting weights into one whose parameters are other numbers.

    What is not trained becomes a constant: a buffer that no State holds, since it is a function of
    the task's model, origin and seed.
    """

    def install(self, module: nn.Module) -> tuple[str, ...]:
        """Changes the network; returns the parameters that a mask covers, in its order.

        Raises UserError for a network that has no such numbers.
        """


@runtime_checkable
class Covering(Protocol):
    """Coordinates that may lie where ``covers`` says, as a mask on weights would."""

    @property
    def covers(self) -> Covers:
        """What a mask covers of the stock network."""


@runtime_checkable
class Probabilistic(Protocol):
    """Coordinates whose weights are drawn whenever the network runs, from laws that are trained."""

    @property
    def num_samples(self) -> int:
        """How many draws the loss of a training step is the mean of."""

    def answer_by(self, module: nn.Module, objective: Objective) -> None:
        """Has an installed network predict by several draws, averaged as the objective's are."""

    def penalty(self, module: nn.Module, num: float) -> Tensor:
        """Computes what is added to the loss, a mean over ``num`` terms of the training data."""

    def settle(self, module: nn.Module) -> None:
        """Puts right what belongs to pruned weights, after a step."""


def prunes_to_zero(coordinates: Coordinates | None) -> bool:
    """Whether a pruned entry is a weight of zero, and not one that has gone back to the origin's.

    Coordinates in which it is say so themselves.
    """
    own: Any = coordinates
    return coordinates is None or bool(getattr(own, "prunes_to_zero", False))


Base = Literal["own", "bf16"]  # the numbers that theta_0 is kept in: as it is, or halved


@dataclass(frozen=True)
class Delta:
    """Trains theta = theta_0 + delta with delta = 0 at the start: to prune delta is to go back.

    ``only``: patterns of the parameters that have a delta, those that a mask covers; None for
    those of ``covers``. ``whole``: patterns of those that are trained as they are, a new head for
    example. All others stand still. A pruned entry of delta is zero, so that the weight is
    theta_0's to the last bit, whatever the optimizer: it moves deltas alone, and its weight decay
    draws them to theta_0. ``base``: theta_0 is kept as it is (own) or rounded to bf16, to which
    deltas in fp32 are added without rounding it further.
    Panda et al., 2024, arXiv 2406.16797 (LoTA); rows of an embedding: Yuan et al., NAACL 2025,
    arXiv 2402.02801. Raises UserError for patterns that match nothing and for a parameter that
    both name.
    """

    only: Sequence[str] | None = None
    whole: Sequence[str] = ()
    covers: Covers = field(default_factory=Covers)
    base: Base = "own"

    def __post_init__(self) -> None:
        object.__setattr__(self, "whole", as_names(self.whole))
        if self.base not in get_args(Base):
            value = str(self.base)
            raise UserError(f"coordinates.base={value!r}: {nearest(value, get_args(Base))}")
        if self.only is None:
            return
        object.__setattr__(self, "only", as_names(self.only))
        if not self.only:
            raise UserError(
                "coordinates.only is empty: name the parameters that have a delta, ['*weight'], or "
                "null for those that covers names"
            )
        if self.covers != Covers():
            raise UserError(
                f"coordinates.only={list(self.only)} says itself what a mask covers: leave covers "
                "at its default, or coordinates.only at null"
            )

    def install(self, module: nn.Module) -> tuple[str, ...]:
        names = [name for name, _ in module.named_parameters()]
        if self.only is None:
            chosen = frozenset(self.covers.names(module))
        else:
            chosen = select(self.only, names, "coordinates.only")
        whole = select(self.whole, names, "coordinates.whole")
        if both := sorted(chosen & whole):
            raise UserError(
                f"{'coordinates.only' if self.only else 'covers'} and coordinates.whole both name "
                f"{both[0]}: a parameter has a delta or is whole: leave it out of one"
            )
        freeze(module, {name for name in names if name not in chosen | whole})
        for name in names:
            if name in chosen:
                _add_delta(module, name, torch.bfloat16 if self.base == "bf16" else None)
        return tuple(own_name(name) for name in names if name in chosen)


class Laid(nn.Module):
    """What coordinates lay on a tensor of the stock network: it computes that tensor's values."""


class _Added(Laid):
    """Computes base + delta, in the precision of the finer of the two."""

    def __init__(self, base: Tensor, kind: torch.dtype | None) -> None:
        super().__init__()
        self.base: Tensor
        # a zero of the origin's may be -0.0, which no sum with +0.0 is
        self.register_buffer("base", (base.detach() + 0.0).to(kind or base.dtype), persistent=False)

    def forward(self, delta: Tensor) -> Tensor:
        return self.base + delta

    def right_inverse(self, weight: Tensor) -> Tensor:
        return torch.zeros_like(weight)  # what is installed starts from the base itself


def _add_delta(module: nn.Module, name: str, kind: torch.dtype | None) -> None:
    """Lays one delta on a parameter, in every layer that shares it; its base is of a ``kind``."""
    parameter = module.get_parameter(name)
    added = _Added(parameter, kind)
    places = list(layers_with(module, {id(parameter)}))
    for layer, leaf in places:
        own_class(layer)
        parametrize.register_parametrization(layer, leaf, added)
    first, leaf = places[0]
    original = getattr(first.parametrizations, leaf).original
    for layer, other in places[1:]:
        part = getattr(layer.parametrizations, other)
        part.original = original  # one delta, as there was one weight


def own_name(name: str) -> str:
    """Names the parameter that a parametrised tensor of this name is computed from."""
    path, _, leaf = name.rpartition(".")
    return (
        f"{path}.parametrizations.{leaf}.original" if path else f"parametrizations.{leaf}.original"
    )


def stock_name(name: str) -> str:
    """Names the tensor of the stock network that a parameter stands for; ``own_name`` undone.

    The matrices of a low-rank pair both stand for the weight that they are a change of.
    """
    found = re.fullmatch(r"(.*?)parametrizations\.(.*)\.(original|0\.[AB]|0\.rho)", name)
    return name if found is None else f"{found[1]}{found[2]}"


def freeze(module: nn.Module, names: Collection[str]) -> None:
    """Turns parameters into constants, a shared one everywhere that it is used."""
    frozen = {id(module.get_parameter(name)): module.get_parameter(name) for name in names}
    made: dict[int, Tensor] = {key: value.detach() for key, value in frozen.items()}
    for layer, leaf in list(layers_with(module, frozen)):
        parameter = layer._parameters.pop(leaf)
        layer.register_buffer(leaf, made[id(parameter)], persistent=False)


def layers_with(module: nn.Module, wanted: Collection[int]) -> Iterator[tuple[nn.Module, str]]:
    """Goes through the layers that hold parameters of these ids, with the names they have there."""
    for layer in module.modules():
        for leaf, parameter in layer._parameters.items():
            if parameter is not None and id(parameter) in wanted:
                yield layer, leaf


def constants(module: nn.Module) -> State:
    """Reads what is not trained and held by no State: the buffers that are not persistent."""
    held = module.state_dict()
    return {name: value for name, value in module.named_buffers() if name not in held}


@torch.no_grad()
def merged(module: nn.Module) -> State:
    """Reads the stock network's tensors under their stock names, computed and frozen ones too.

    A shared parameter stands under its first name, buffers that the stock network holds too, and
    what its own parametrisations (weight norm) compute from, in place of what they compute.
    """
    found: State = {}
    seen: set[int] = set()
    laid: set[str] = set()  # paths of what coordinates have laid on tensors
    for path, layer in module.named_modules():
        if path in laid or path.rpartition(".")[0] in laid:
            continue
        at = f"{path}." if path else ""
        computed = {
            leaf: part
            for leaf, part in getattr(layer, "parametrizations", {}).items()
            if isinstance(part[0], Laid)
        }
        laid |= {f"{at}parametrizations.{leaf}" for leaf in computed}
        for leaf in [*layer._parameters, *layer._buffers, *computed]:
            value = getattr(layer, leaf)
            source = computed[leaf].original if leaf in computed else value
            if value is not None and id(source) not in seen:
                seen.add(id(source))
                found[at + leaf] = value.detach().cpu().clone()
    return found
