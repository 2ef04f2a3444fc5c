"""The numbers that a network is trained in, where its weights are computed from others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from lth_runner.values.errors import UserError
from lth_runner.values.name_patterns import select
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


@dataclass(frozen=True)
class Delta:
    """Trains theta = theta_0 + delta with delta = 0 at the start: to prune delta is to go back.

    ``only``: patterns of the parameters that have a delta, those that a mask covers. ``whole``:
    patterns of those that are trained as they are, a new head for example. All others stand still.
    A pruned entry of delta is exactly zero, so that the weight is theta_0's to the last bit.
    Panda et al., 2024, arXiv 2406.16797 (LoTA); rows of an embedding: Yuan et al., NAACL 2025,
    arXiv 2402.02801. Raises UserError for patterns that match nothing and for a parameter that
    both name.
    """

    only: Sequence[str]
    whole: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("only", "whole"):
            object.__setattr__(self, name, tuple(getattr(self, name) or ()))
        if not self.only:
            raise UserError(
                "coordinates.only is empty: name the parameters that have a delta, ['*weight']"
            )

    def install(self, module: nn.Module) -> tuple[str, ...]:
        names = [name for name, _ in module.named_parameters()]
        chosen = select(self.only, names, "coordinates.only")
        whole = select(self.whole, names, "coordinates.whole")
        if both := sorted(chosen & whole):
            raise UserError(
                f"coordinates.only and coordinates.whole both name {both[0]}: a parameter has a "
                "delta or is trained whole"
            )
        freeze(module, {name for name in names if name not in chosen | whole})
        for name in names:
            if name in chosen:
                _add_delta(module, name)
        return tuple(own_name(name) for name in names if name in chosen)


class _Added(nn.Module):
    """Computes base + delta."""

    def __init__(self, base: Tensor) -> None:
        super().__init__()
        self.base: Tensor
        self.register_buffer("base", base.detach().clone(), persistent=False)

    def forward(self, delta: Tensor) -> Tensor:
        return self.base + delta

    def right_inverse(self, weight: Tensor) -> Tensor:
        return torch.zeros_like(weight)  # what is installed starts from the base itself


def _add_delta(module: nn.Module, name: str) -> None:
    """Lays one delta on a parameter, in every layer that shares it."""
    parameter = module.get_parameter(name)
    added = _Added(parameter)
    places = list(_places(module, {id(parameter)}))
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
    """Names the tensor of the stock network that a parameter stands for; ``own_name`` undone."""
    if "parametrizations." not in name:
        return name
    return name.replace("parametrizations.", "", 1).removesuffix(".original")


def freeze(module: nn.Module, names: Collection[str]) -> None:
    """Turns parameters into constants, a shared one everywhere that it is used."""
    frozen = {id(module.get_parameter(name)): module.get_parameter(name) for name in names}
    made: dict[int, Tensor] = {key: value.detach() for key, value in frozen.items()}
    for layer, leaf in list(_places(module, frozen)):
        parameter = layer._parameters.pop(leaf)
        layer.register_buffer(leaf, made[id(parameter)], persistent=False)


def _places(module: nn.Module, wanted: Collection[int]) -> Iterator[tuple[nn.Module, str]]:
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

    A shared parameter stands under its first name, buffers that the stock network holds too.
    """
    found: State = {}
    seen: set[int] = set()
    for path, layer in module.named_modules():
        if "parametrizations" in path.split("."):
            continue
        at = f"{path}." if path else ""
        computed = list(getattr(layer, "parametrizations", {}))
        for leaf in [*layer._parameters, *layer._buffers, *computed]:
            value = getattr(layer, leaf)
            source = (
                value if leaf not in computed else getattr(layer.parametrizations, leaf).original
            )
            if value is not None and id(source) not in seen:
                seen.add(id(source))
                found[at + leaf] = value.detach().cpu().clone()
    return found
