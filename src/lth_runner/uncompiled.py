"""torch's optimizers without torch's compiler, where nothing is compiled."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.optim import Optimizer

COMPILER = "torch._dynamo"
KEPT_FROM_IT = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
Method = Callable[..., Any]


def leave_compiler_out() -> None:
    """Lets this process make and step torch's optimizers without importing the compiler.

    They import it, at the price of importing torch once more, only to tell it to keep out of
    them. As long as nobody else has imported it, the methods inside are called directly, to the
    same effect; from then on torch's own are. Changes nothing in a torch that is written
    otherwise, nor where the compiler is loaded already.
    """
    if COMPILER in sys.modules:
        return
    for name in KEPT_FROM_IT:
        _replace(Optimizer, name, "inner", lambda optimizer: nullcontext())
    for found in vars(torch.optim).values():
        if isinstance(found, type) and issubclass(found, Optimizer):
            _replace(found, "step", "_use_grad", _grad_mode)


def _grad_mode(optimizer: Optimizer) -> AbstractContextManager[object]:
    """As torch's decorator of ``step`` has it: gradients flow through differentiable ones alone."""
    return torch.set_grad_enabled(optimizer.defaults["differentiable"])


def _replace(
    owner: type, name: str, written: str, around: Callable[[Any], AbstractContextManager[object]]
) -> None:
    """Puts a choice between both in a method's place, where torch's decorator is the known one."""
    method: Method | None = vars(owner).get(name)
    plain: Method | None = getattr(method, "__wrapped__", None)
    if method is None or plain is None or method.__code__.co_name != written:
        return

    @functools.wraps(method)
    def either(self: Any, *arguments: Any, **named: Any) -> Any:
        if COMPILER in sys.modules:
            return method(self, *arguments, **named)
        with around(self):
            return plain(self, *arguments, **named)

    setattr(owner, name, either)
