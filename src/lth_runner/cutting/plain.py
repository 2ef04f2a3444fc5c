"""A network as plain layers under its mask: a copy without parametrisations and hooks.

But for functions that are hooked into the network as a whole and know nothing but what they are
given: what it is called with and what it answers go through them (networks of transformers take the
inputs of data and answer with logits so).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lth_runner.values.errors import UserError, nearest
from lth_runner.values.own_class import own_class

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def check_mask(module: nn.Module, mask: Mapping[str, Tensor]) -> None:
    """Raises UserError for a mask that names no parameter, or has another shape."""
    known = dict(module.named_parameters())
    for name in mask:
        if name not in known:
            raise UserError(f"the mask names {name}, which the network lacks: "
                            f"{nearest(name, known)}")  # fmt: skip
        if mask[name].shape != known[name].shape:
            raise UserError(
                f"the mask of {name} has shape {tuple(mask[name].shape)}, but the network has "
                f"{tuple(known[name].shape)}: give a mask of this network"
            )


@torch.no_grad()
def masked_copy(module: nn.Module, mask: Mapping[str, Tensor]) -> nn.Module:
    """Copies a network under its mask, in evaluation, with all that is hooked into it."""
    computed = {  # which older hooks leave behind as attributes, and which nothing can copy
        id(value): value.detach().clone()
        for part in module.modules()
        for held in vars(part).values()
        for value in (held if isinstance(held, list) else [held])  # recurrent layers have a list
        if isinstance(value, Tensor) and not value.is_leaf
    }
    copied = copy.deepcopy(module, computed).eval()
    for name, parameter in copied.named_parameters():
        if name in mask:
            parameter.masked_fill_(~mask[name].to(parameter.device), 0)
    return copied


@torch.no_grad()
def plain_copy(module: nn.Module, mask: Mapping[str, Tensor]) -> nn.Module:
    """Copies a network under its mask, in evaluation, without parametrisations and hooks."""
    copied = masked_copy(module, mask)
    for part in copied.modules():
        _bake(part)
        for leaf in list(part._forward_pre_hooks):
            hook = part._forward_pre_hooks.get(leaf)
            if isinstance(hook, prune.BasePruningMethod):
                prune.remove(part, hook._tensor_name)
            elif isinstance(hook, WeightNorm):
                nn.utils.remove_weight_norm(part, hook.name)
            elif isinstance(hook, SpectralNorm):
                nn.utils.remove_spectral_norm(part, hook.name)
        for hooks in HOOKS:
            of_part = getattr(part, hooks)
            for key in [key for key, hook in of_part.items() if part is not copied or holds(hook)]:
                del of_part[key]
    return copied


def holds(hook: Callable[..., Any]) -> bool:
    """Whether a hook knows more than it is given: an object, or what it was defined within."""
    return not isinstance(hook, FunctionType) or hook.__closure__ is not None


def _bake(part: nn.Module) -> None:
    """Puts plain parameters in the place of parametrised ones."""
    if not parametrize.is_parametrized(part):
        return
    own_class(part)
    parametrized = part.parametrizations
    assert isinstance(parametrized, nn.ModuleDict)
    for leaf in list(parametrized):
        with torch.enable_grad():  # what is left is to be trained as its originals were
            parametrize.remove_parametrizations(part, leaf)
    part._load_state_dict_pre_hooks.clear()  # which knew the tensors' former names


def additions(module: nn.Module) -> Iterator[str]:
    """Names the parts that compute something beside their layer: hooks and parametrisations."""
    for name, part in module.named_modules():
        hooked = any(
            part is not module or holds(hook)
            for hooks in HOOKS
            for hook in getattr(part, hooks).values()
        )
        if hooked or parametrize.is_parametrized(part):
            yield f"{name or 'the network'} ({type(part).__name__})"
