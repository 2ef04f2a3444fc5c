"""A network as it is built: what a mask covers of it, and a copy that holds no weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lth_runner.problem.coordinates import Coordinates, Probabilistic, constants
from lth_runner.problem.covers import Covers, kind_by_name
from lth_runner.problem.held import held_fingerprint, is_shipped
from lth_runner.problem.objective import Objective
from lth_runner.problem.origin import Origin
from lth_runner.problem.places import moved
from lth_runner.values import state as states


@dataclass(frozen=True, eq=False)
class Blueprint:
    """A built network, the parameters that a mask covers, and what its stock modules are.

    ``fixed``: buffers that coordinates have made, as theta_0: nobody writes to them, so that all
    copies of the network have them together.
    """

    module: nn.Module
    covered: tuple[str, ...]
    classes: frozenset[type[nn.Module]]
    kinds: Mapping[str, str]  # of the layers, by the name of their weights
    held: str | None = None  # a hash of what a user's network holds besides its weights
    trains: tuple[bool, ...] = ()  # whether each module was in training mode when it was built
    fixed: frozenset[str] = frozenset()

    def bare(self, model: Callable[[], nn.Module], device: torch.device | str) -> Blueprint:
        """Returns the network on a device without what a State holds, and hashes what else it has.

        Whoever runs it passes all of these tensors (``functional_call``). A network that keeps one
        of them in another place too then fails, where it would have computed with its own values.
        A network that cannot be copied keeps them. ``model``: what has built it.
        """
        shipped = is_shipped(model, self.classes)
        held = None if shipped else held_fingerprint(self.module)  # before anybody runs it
        trains = tuple(part.training for part in self.module.modules())
        module = self._without_values(moved(self.module, device))
        return replace(self, module=module, held=held, trains=trains)

    def _without_values(self, module: nn.Module) -> nn.Module:
        bare: dict[int, Any] = self._shared(module)
        for _, value in states.named_tensors(module):
            bare[id(value)] = _as_registered(torch.empty_like(value, device="meta"), value)
        try:
            return copy.deepcopy(module, bare)
        except (TypeError, RuntimeError):  # it holds what has no copy: a lock, a file, a graph
            return module

    def copied(self, *, hollow: bool = False) -> nn.Module | None:
        """Copies the network, zeros in the place of what a State holds; None where it has no copy.

        A tenth of the time of building it, where millions of weights are drawn for nothing.
        ``hollow``: all zeros of a tensor are one place in memory, and nobody can write to them.
        """
        zeros: dict[int, Any] = self._shared(self.module)
        for _, value in states.named_tensors(self.module):
            if value.device.type != "meta":
                return None
            room = _nothing_like(value) if hollow else torch.zeros_like(value, device="cpu")
            zeros[id(value)] = _as_registered(room, value)
        module = copy.deepcopy(self.module, zeros)
        for part, trains in zip(module.modules(), self.trains, strict=True):
            part.training = trains
        return module

    def _shared(self, module: nn.Module) -> dict[int, Any]:
        """Maps each fixed buffer to itself, for a copy that is to have it too."""
        named = dict(module.named_buffers())
        return {id(named[name]): named[name] for name in self.fixed}


def build(
    model: Callable[[], nn.Module],
    origin: Origin | None,
    coordinates: Coordinates | None,
    covers: Covers,
    objective: Objective,
    *,
    biases: bool,
) -> Blueprint:
    """Builds a network by torch's global streams and an origin, in its coordinates."""
    module = model()
    # of the stock network: coordinates put classes of torch in their place
    classes = frozenset(type(part) for part in module.modules())
    kinds = kind_by_name(module)
    if origin is not None:
        origin.lay(module)
    if coordinates is None:
        return Blueprint(module, covers.names(module, biases=biases), classes, kinds)
    own = constants(module)
    covered = coordinates.install(module)
    if isinstance(coordinates, Probabilistic):
        coordinates.answer_by(module, objective)
    fixed = frozenset(constants(module).keys() - own.keys())
    return Blueprint(module, covered, classes, kinds, fixed=fixed)


def hollowed(module: nn.Module) -> nn.Module:
    """Has a network's tensors take no memory; none of them can be written to."""
    for _, value in states.named_tensors(module):
        value.data = _nothing_like(value)
    return module


def _nothing_like(value: Tensor) -> Tensor:
    """Makes a tensor on the CPU that takes no memory, as large as another."""
    return torch.zeros((), dtype=value.dtype).expand(value.shape)


def _as_registered(value: Tensor, like: Tensor) -> Tensor:
    """Makes a value a parameter where another tensor is one."""
    return nn.Parameter(value, like.requires_grad) if isinstance(like, nn.Parameter) else value
