"""Runs a network in double precision, one operation at a time, without a copy of its weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from lth_runner.cutting.operations import Operations

Seen = Callable[[Any, dict[str, Any], dict[str, Any], Any], None]


@dataclass(frozen=True)
class Exact:
    """A tensor known to more places than it has: all of it, or one column."""

    value: Tensor
    column: int | None = None

    def __call__(self, rounded: Tensor) -> Tensor:
        if self.column is None:
            return self.value
        found = rounded.detach().to(torch.float64, copy=True)
        found[:, self.column] = self.value
        return found


def in_double(func: Any, named: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Calls an operation with its floating-point arguments in double precision.

    Returns the arguments, and what is answered. What is written to stays as it is, and so does
    what is viewed, whose copy would not see what is written into the view. Nothing new has a lower
    precision.
    """
    stay = {
        a.name
        for a in func._schema.arguments
        if a.alias_info and (a.alias_info.is_write or func.is_view)
    }
    doubled = {
        name: value if name in stay else _all_doubled(value, {}) for name, value in named.items()
    }
    dtype = doubled.get("dtype")
    if isinstance(dtype, torch.dtype) and dtype.is_floating_point:
        doubled["dtype"] = torch.float64
    args, kwargs = [], {}
    for argument in func._schema.arguments:
        if argument.name not in doubled:
            continue
        if argument.kwarg_only:
            kwargs[argument.name] = doubled[argument.name]
        else:
            args.append(doubled[argument.name])
    out = func(*args, **kwargs)
    return doubled, out if stay else _all_doubled(out, {})


def _all_doubled(value: Any, exact: Mapping[int, Exact]) -> Any:
    if isinstance(value, Tensor):
        return _doubled(value, exact)
    if isinstance(value, PackedSequence):
        return value._replace(data=_doubled(value.data, exact))
    if type(value) in (list, tuple):
        return type(value)(_all_doubled(each, exact) for each in value)
    return value


def _doubled(value: Tensor, exact: Mapping[int, Exact]) -> Tensor:
    if id(value) in exact:
        return exact[id(value)](value)
    lower = value.is_floating_point() and value.dtype != torch.float64
    return value.to(torch.float64) if lower else value


class DoubleArguments(TorchFunctionMode):
    """Gives every function of several tensors its floating-point arguments in double precision.

    Some functions compare their arguments' types before they come to an operation. ``exact``
    replaces tensors by their id. What is written to stays as it is, and so does a single tensor,
    of which the function may answer a view.
    """

    def __init__(self, exact: Mapping[int, Exact]) -> None:
        super().__init__()
        self._exact = exact

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        plain = name.startswith("__") or name.endswith("_")  # __get__ and the like; in place
        first = 1 if plain or (kwargs and kwargs.get("inplace")) else 0
        if name in ("__get__", "__set__"):
            first = len(args)
        tensors = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, Tensor)]
        if len(tensors) < 2 and id(next(iter(tensors), None)) not in self._exact:
            return func(*args, **(kwargs or {}))
        doubled = [_all_doubled(value, self._exact) for value in args[first:]]
        named = {
            key: value if key == "out" else _all_doubled(value, self._exact)
            for key, value in (kwargs or {}).items()
        }
        return func(*args[:first], *doubled, **named)


@contextmanager
def double_recurrent(module: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Gives recurrent layers weights and inputs in double precision: they compare types first.

    Yields the weights, each with its copy.
    """
    layers = [part for part in module.modules() if isinstance(part, nn.RNNBase)]
    before = [part._flat_weights for part in layers]
    handles = [part.register_forward_pre_hook(_given_doubled, with_kwargs=True) for part in layers]
    for part in layers:
        part._flat_weights = [w if w is None else w.double() for w in part._flat_weights]
    pairs = [
        (own, copy)
        for part, weights in zip(layers, before, strict=True)
        for own, copy in zip(weights, part._flat_weights, strict=True)
        if own is not None and copy is not None
    ]
    try:
        yield pairs
    finally:
        for part, weights, handle in zip(layers, before, handles, strict=True):
            part._flat_weights = weights
            handle.remove()


def _given_doubled(part: nn.Module, args: Any, named: Mapping[str, Any]) -> Any:
    return _all_doubled(args, {}), {name: _all_doubled(value, {}) for name, value in named.items()}


def double_operations(seen: Seen | None = None) -> Operations:
    """Makes every operation compute in double precision, and tells of each.

    ``seen`` is given the operation, its arguments by name as they were given and as they were
    doubled, and what was answered.
    """

    def do(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = by_name(func, args, kwargs)
        doubled, out = in_double(func, given)
        if seen is not None:
            seen(func, given, doubled, out)
        return out

    return Operations(do)


def by_name(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Names all arguments of an operation, the default ones too."""
    named = {}
    for place, argument in enumerate(func._schema.arguments):
        if place < len(args):
            named[argument.name] = args[place]
        elif argument.name in kwargs:
            named[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            named[argument.name] = argument.default_value
    return named
