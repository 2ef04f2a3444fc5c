"""An optimizer's tensors, moments and counters, as a checkpoint holds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch.optim import Optimizer

from lth_runner.values.shards import local, local_of, whole
from lth_runner.values.state import State

NUMBER = ":number"  # behind the name of what is a number of Python's, and no tensor


def flat(optimizer: Optimizer) -> State:
    """Names an optimizer's tensors ``<index>.<name>``; those on the CPU are no copies.

    Numbers become tensors that hold all their digits. Of a network that lies on several processes
    in whole: the others must ``gather`` them.
    """
    found: State = {}
    for path, value in _named(optimizer):
        if isinstance(value, Tensor):
            found[path] = whole(value.detach()).cpu()
        else:
            dtype = torch.float64 if isinstance(value, float) else None
            is_number = isinstance(value, (bool, int, float))
            found[path + NUMBER * is_number] = torch.tensor(value, dtype=dtype)
    return found


def gather(optimizer: Optimizer) -> None:
    """Gives what lies in this process to the one that takes all, tensor by tensor."""
    for _, value in _named(optimizer):
        if isinstance(value, Tensor):
            whole(value.detach())


def _named(optimizer: Optimizer) -> Iterator[tuple[str, object]]:
    for index, entries in optimizer.state_dict()["state"].items():
        for name, value in entries.items():
            if value is not None:
                yield f"{index}.{name}", value


def unfuse(optimizer: Optimizer) -> None:
    """Has an optimizer step by torch's plain operations: few fused ones know parts of tensors."""
    for group in optimizer.param_groups:
        if group.get("fused"):
            group |= {"fused": False, "foreach": True}


def restore(optimizer: Optimizer, named: Iterable[tuple[str, Tensor]]) -> None:
    """Gives an optimizer what ``flat`` gave."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    entries: dict[int, dict[str, Tensor | float]] = {}
    for path, value in named:
        index, name = path.split(".", 1)
        like = parameters[int(index)]
        if name.endswith(NUMBER):
            entries.setdefault(int(index), {})[name.removesuffix(NUMBER)] = value.item()
            continue
        if value.shape == like.shape:  # fused kernels need the parameter's own memory layout
            part = local_of(value, like)
            value = torch.empty_like(like, dtype=value.dtype)
            local(value).copy_(part)
        else:
            value = value.clone()  # a step counter: the optimizer counts in place
        entries.setdefault(int(index), {})[name] = value
    whole_state = optimizer.state_dict()
    optimizer.load_state_dict({**whole_state, "state": entries})
