"""What a CUDA graph does, on a CPU: kernels recorded with their addresses, done again without

Python. Whatever a step computes in Python, or makes of it, is frozen at the time of recording.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self._known: set[int] = set()
        self._before: list[tuple[Tensor, Tensor]] = []  # (all of a storage, a copy of it)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in FORBIDDEN:
            raise RuntimeError(f"{func} while recording: the host has a part in it")
        for tensor in tensors((args, kwargs)):
            self._remember(tensor)
        given = func(*args, **kwargs)
        for tensor in tensors(given):
            self._known.add(address(tensor))
        self.calls.append((func, args, kwargs, given))
        return given

    def _remember(self, tensor: Tensor) -> None:
        """Keeps a copy of what was there before; not every operator says what it writes to."""
        if address(tensor) in self._known:
            return
        self._known.add(address(tensor))
        storage = tensor.untyped_storage()
        whole = torch.empty(0, dtype=torch.uint8).set_(storage)
        self._before.append((whole, whole.clone()))

    def undo(self) -> None:
        for whole, copy in self._before:
            whole.copy_(copy)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, given in self.calls:
            taken = {address(tensor) for tensor in tensors((args, kwargs))}
            for old, new in zip(tensors(given), tensors(func(*args, **kwargs)), strict=True):
                if address(old) not in taken:  # else a view, or written in place
                    old.detach().copy_(new)


def tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def address(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
