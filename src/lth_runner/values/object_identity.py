"""What an object is whose class is a user's or a library's: its class, its code and its fields."""

from __future__ import annotations

import enum
import functools
import hashlib
import inspect
import os
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from lth_runner.values import identity

# of libraries that do not come with their users: no part of what an object is
LIBRARIES = {"lth_runner", "torch", "torchvision", *sys.stdlib_module_names}
POINTER = struct.calcsize("P")  # bytes
BY_REPR = (
    bytes, complex, range, slice, re.Pattern, PurePath, torch.dtype, torch.device,
    torch.memory_format, numpy.dtype,
)  # fmt: skip


def describe_object(value: Any) -> Any:
    """Describes an object and all that it holds as a JSON value, equal for equal objects alone.

    As ``identity.describe``, and other objects by class, code and all fields, those of a module's
    parts too. Raises TypeError for lambdas, for functions and classes that capture values, and for
    what keeps its state where Python does not see it.
    """
    return _described(value, ())


def outline(value: Any) -> Any:
    """Describes as much of an object as is plain, for where its contents are hashed beside it.

    That is its class, its code, its public fields that are numbers, truth values or texts (but for
    paths, which say where something is), and in the same way what can be called or is a data set
    of torch's among its fields.
    """
    return _outlined(value, ())


def _described(value: Any, inside: tuple[Any, ...]) -> Any:
    if any(value is other for other in inside):
        raise TypeError(f"a {type(value).__name__} holds itself")
    inside = (*inside, value)
    if not isinstance(value, nn.Module):  # which a dataclass may be, its fields not all there is
        try:
            return identity.describe(value)
        except (TypeError, ValueError, AttributeError) as error:
            # not the error itself: it holds this frame, which would hold it, with the network that
            # is described, until garbage is searched for
            reason, said = type(error), str(error)
    if isinstance(value, Mapping):
        pairs = [[_described(k, inside), _described(v, inside)] for k, v in value.items()]
        return sorted(pairs, key=identity.canonical)
    if isinstance(value, (list, tuple)):
        return [_described(item, inside) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_described(item, inside) for item in value), key=identity.canonical)
    if isinstance(value, (Tensor, numpy.ndarray, numpy.generic)):
        return _numbers(value)
    if isinstance(value, enum.Enum):
        return [type(value).__qualname__, value.name]
    if isinstance(value, BY_REPR):
        return repr(value)
    if isinstance(value, functools.partial):
        called = [value.func, value.args, value.keywords]
        return ["partial", *(_described(part, inside) for part in called)]
    if inspect.ismethod(value):
        return [value.__func__.__qualname__, _described(value.__self__, inside)]
    if inspect.isclass(value) or inspect.isroutine(value):
        bound_to = getattr(value, "__self__", None)
        stateless = bound_to is None or inspect.ismodule(bound_to) or inspect.isclass(bound_to)
        if issubclass(reason, ValueError) and stateless:  # in C, without a signature
            return f"{value.__module__}.{value.__qualname__}"
        if not issubclass(reason, TypeError):
            raise TypeError(f"what {value.__qualname__} is bound to cannot be seen: use a class")
        raise TypeError(said)
    if not _is_seen(value):
        raise TypeError(f"what a {type(value).__name__} holds cannot be seen: use plain values")
    _check_captures_nothing(type(value))
    fields = {name: _described(field, inside) for name, field in sorted(_fields(value))}
    return {**_class(type(value)), "fields": fields}


def _outlined(value: Any, inside: tuple[Any, ...]) -> Any:
    if any(value is other for other in inside):
        return None
    inside = (*inside, value)
    if isinstance(value, functools.partial):
        return [_outlined(value.func, inside), _plain(value.keywords)]
    if inspect.isclass(value) or inspect.isroutine(value):
        return _class(value)
    fields = dict(_fields(value))
    parts: dict[str, Any] = dict(fields.pop("_modules", {}))
    for name, field in fields.items():
        held = field if isinstance(field, (list, tuple)) else [field]
        if not name.startswith("_") and held and all(map(_is_part, held)):
            parts[name] = held
    found = {
        name: [_outlined(part, inside) for part in held] if isinstance(held, (list, tuple)) else
        _outlined(held, inside)
        for name, held in sorted(parts.items())
    }  # fmt: skip
    return {**_class(type(value)), "fields": _plain(fields), "parts": found}


def _is_part(value: Any) -> bool:
    return callable(value) or isinstance(value, torch.utils.data.Dataset)


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in sorted(fields.items()):
        is_path = isinstance(value, str) and ("/" in value or os.sep in value)
        if name.startswith("_") or is_path:
            continue
        if isinstance(value, (bool, int, str)):
            found[name] = value
        elif isinstance(value, float):
            found[name] = repr(float(value))  # not a number too
    return found


def _fields(value: Any) -> Iterator[tuple[str, Any]]:
    """Goes through what an object holds, without what every module of torch has alike."""
    alike = vars(nn.Module()) if isinstance(value, nn.Module) else {}
    for name, field in getattr(value, "__dict__", {}).items():
        if name not in alike or field != alike[name]:
            yield name, field
    for name in _slots(type(value)):
        if hasattr(value, name):
            yield name, getattr(value, name)


def _slots(target: type) -> list[str]:
    found: list[str] = []
    for one in target.__mro__:
        slots = vars(one).get("__slots__", ())
        found += [slots] if isinstance(slots, str) else slots
    return [name for name in found if name not in ("__dict__", "__weakref__")]


def _is_seen(value: Any) -> bool:
    """Whether all that an object holds are fields, and nothing lies in memory of C's."""
    pointers = 2 + len(_slots(type(value)))  # to its fields, and to weak references to it
    plain = object.__basicsize__ + pointers * POINTER
    return (hasattr(value, "__dict__") or pointers > 2) and type(value).__basicsize__ <= plain


def _class(target: Any) -> dict[str, Any]:
    """Names a class or function, with the code of all its classes."""
    of = target.__mro__ if inspect.isclass(target) else [target]
    found = [source for one in of if not _is_library(one) for source in _source(one)]
    name = getattr(target, "__qualname__", type(target).__name__)
    return {"": f"{getattr(target, '__module__', None)}.{name}"} | (
        {"#source": found} if found else {}
    )


def _source(target: Any) -> list[str]:
    try:
        return list(identity.source(target).values())
    except AttributeError:  # a method in C, of no module
        return []


def _is_library(target: Any) -> bool:
    return str(getattr(target, "__module__", None)).split(".")[0] in LIBRARIES


def _check_captures_nothing(target: type) -> None:
    for one in target.__mro__:
        for member in [] if _is_library(one) else vars(one).values():
            function = inspect.unwrap(getattr(member, "__func__", getattr(member, "fget", member)))
            code = getattr(function, "__code__", None)
            if captured := set(getattr(code, "co_freevars", ())) - {"__class__"}:
                raise TypeError(
                    f"{one.__qualname__} captures {', '.join(sorted(captured))}: make it a field"
                )


def _numbers(value: Any) -> list[Any]:
    array = value.detach().cpu() if isinstance(value, Tensor) else torch.as_tensor(value)
    parts, digest = [array], hashlib.sha256()
    if array.layout is not torch.strided:
        sparse = array.to_sparse().coalesce()
        parts = [sparse.indices(), sparse.values()]
    for part in parts:
        if part.numel():
            digest.update(part.contiguous().view(-1).view(torch.uint8).numpy().data)
    return [str(array.dtype), list(array.shape), digest.hexdigest()]
