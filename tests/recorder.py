"""What a CUDA graph does, on a CPU: kernels recorded with their addresses, done again without

Python. Whatever a step computes in Python, or makes of it, is frozen at the time of recording.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# asking the device (a number, a size), or giving it what only the host knows
FORBIDDEN = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.lift_fresh.default,
}


def recorded(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """Stands in for ``cuda_graph``: nothing is changed by recording, and replaying is all of it."""
    tape = Tape()
    with tape:
        work()
    tape.undo()
    return tape.replay


class Tape(TorchDispatchMode):
    """Every operator with the very tensors it was given and gave, kept where they lie."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[[], Any], list[Tensor | None]]] = []
        self._known: set[int] = set()
        self._before: list[tuple[Tensor, Tensor]] = []  # (all of a storage, a copy of it)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in FORBIDDEN:
            raise RuntimeError(f"{func} while recording: the host has a part in it")
        taken = tensors([*args, *kwargs.values()])
        for tensor in taken:
            self._remember(tensor)
        given = func(*args, **kwargs)
        self._known.update(address(tensor) for tensor in tensors(given))
        # what is a view, or was written in place, needs no copy
        own = {address(tensor) for tensor in taken}
        fresh = [None if address(t) in own else t.detach() for t in tensors(given)]
        self.calls.append((functools.partial(func, *args, **kwargs), fresh))
        return given

    def _remember(self, tensor: Tensor) -> None:
        """Keeps a copy of what was there before; not every operator says what it writes to."""
        if address(tensor) in self._known:
            return
        self._known.add(address(tensor))
        whole = torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())
        self._before.append((whole, whole.clone()))

    def undo(self) -> None:
        for whole, copy in self._before:
            whole.copy_(copy)

    @torch.no_grad()
    def replay(self) -> None:
        for call, places in self.calls:
            for place, value in zip(places, tensors(call()), strict=True):
                if place is not None:
                    place.copy_(value)


def tensors(values: Any) -> list[Tensor]:
    """Those in an operator's arguments or results: at the top, or in lists there."""
    if isinstance(values, Tensor):
        return [values]
    if isinstance(values, (list, tuple)):
        return [found for value in values for found in tensors(value)]
    return []


def address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
