"""The tensors of a network that an origin writes over, by their names."""

from __future__ import annotations

from torch import Tensor, nn


def lying_in(module: nn.Module) -> dict[str, Tensor]:
    """Maps the names of what a network starts from to the tensors themselves."""
    held = module.state_dict(keep_vars=True)
    buffers = {name: value for name, value in module.named_buffers() if name in held}
    return dict(module.named_parameters()) | buffers


def first_names(module: nn.Module) -> dict[str, str]:
    """Maps every name that a shared parameter has to the first one."""
    first = {id(value): name for name, value in module.named_parameters()}
    named = module.named_parameters(remove_duplicate=False)
    return {name: first[id(value)] for name, value in named}
