"""A network as it is built: what a mask covers of it, and a copy that holds no weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from lth_runner.values import state as states


@dataclass(frozen=True, eq=False)
class Blueprint:
    """A built network, the parameters that a mask covers, and what its stock modules are."""

    module: nn.Module
    covered: tuple[str, ...]
    classes: frozenset[type[nn.Module]]
    kinds: Mapping[str, str]  # of the layers, by the name of their weights
    held: str | None = None  # a hash of what a user's network holds besides its weights


def without_values(module: nn.Module) -> nn.Module:
    """Copies a network without the memory of the tensors that a State holds.

    Who runs such a copy gives it all of them (``functional_call``); one that keeps a tensor
    elsewhere than where it is registered cannot be run, instead of with values of its own. A
    network that cannot be copied is returned as it is.
    """
    bare: dict[int, Any] = {}
    for _, value in states.named_tensors(module):
        empty = torch.empty_like(value, device="meta")
        is_parameter = isinstance(value, nn.Parameter)
        bare[id(value)] = nn.Parameter(empty, value.requires_grad) if is_parameter else empty
    try:
        return copy.deepcopy(module, bare)
    except (TypeError, RuntimeError):  # it holds what has no copy: a lock, a file, a graph
        return module
