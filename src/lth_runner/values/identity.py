"""What a value is, as canonical JSON, from which come the names that results are stored under."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from types import CodeType
from typing import Any

VERSIONED = ("transformers",)  # libraries that are told by their version and not by their files
VERSION = "#version"
SOURCE = "#source"


def describe(value: Any) -> Any:
    """Describes a part as a JSON value that is equal for equal parts.

    Arguments that equal their defaults are left out, so that a new option whose default changes
    nothing renames nothing. Parts describe themselves by class and fields, factories by target
    and arguments. Raises TypeError for a value without an identity of its own.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else value  # 0 and 0.0 are one value
    if isinstance(value, functools.partial):
        bound = inspect.signature(value.func).bind_partial(*value.args, **value.keywords)
        return _call(value.func, bound.arguments)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            f.name: getattr(value, f.name)
            for f in dataclasses.fields(value)
            if f.compare and not _is_made(f, getattr(value, f.name))
        }
        return _call(type(value), fields)
    if isinstance(value, Mapping):
        return {str(key): describe(item) for key, item in sorted(value.items())}
    if isinstance(value, (list, tuple)):
        return [describe(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(describe(item) for item in value)
    if inspect.isclass(value) or inspect.isroutine(value):
        if "<lambda>" in value.__qualname__ or getattr(value, "__closure__", None):
            raise TypeError(
                f"{value.__qualname__} has no identity, since what it captures has no name: use a "
                "named function with arguments, in a functools.partial"
            )
        if not hasattr(value, "__self__") or inspect.isbuiltin(value):
            return _call(value, {})
    raise TypeError(f"{value!r} has no identity: use a dataclass, a partial or plain values")


def _is_made(field: dataclasses.Field[Any], value: Any) -> bool:
    """Returns whether a field holds what its default factory makes."""
    factory = field.default_factory
    return factory is not dataclasses.MISSING and _same(factory(), value)


def _call(target: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    changed = {
        name: describe(value)
        for name, value in sorted(arguments.items())
        if name not in defaults or not _same(defaults[name], value)
    }
    # ours by the part they belong to: moving a class within it renames nothing
    parts = target.__module__.split(".")
    module = ".".join(parts[:2]) if parts[0] == "lth_runner" else target.__module__
    return {"": f"{module}.{target.__qualname__}", **changed} | source(target)


def _same(default: Any, value: Any) -> bool:
    try:
        return json.dumps(describe(default)) == json.dumps(describe(value))
    except (TypeError, ValueError):
        return False


def source(target: Callable[..., Any]) -> dict[str, str]:
    """Hashes the file of a user's own code, since an edited network is another network.

    Of a library whose classes a user's config builds networks of it gives the version.
    """
    library = target.__module__.split(".")[0]
    if library in ("lth_runner", "torch", "torchvision", "builtins"):
        return {}
    if library in VERSIONED:
        return {VERSION: f"{library} {version(library)}"}
    try:
        content = Path(str(inspect.getsourcefile(target))).read_bytes()
    except (TypeError, OSError):  # typed at a prompt: no file to read
        content = b"".join(_bytecode(target))
    return {SOURCE: hashlib.sha256(content).hexdigest()[:16]}


def sources(classes: Iterable[type]) -> dict[str, dict[str, str]]:
    """Hashes the code of those among some classes that are a user's, by their full names."""
    found = {f"{one.__module__}.{one.__qualname__}": source(one) for one in classes}
    return {name: code for name, code in sorted(found.items()) if code}


def _bytecode(target: Any) -> Iterator[bytes]:
    members = vars(target).values() if inspect.isclass(target) else [target]
    for member in members:
        member = getattr(member, "__func__", getattr(member, "fget", member))
        if isinstance(getattr(member, "__code__", None), CodeType):
            yield from _code(member.__code__)


def _code(code: CodeType) -> Iterator[bytes]:
    yield code.co_code + repr(code.co_names).encode()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):  # an inner function: its repr holds an address
            yield from _code(constant)
        else:
            ordered = sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant
            yield repr(ordered).encode()


def canonical(value: Any) -> str:
    """Writes canonical JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any, length: int = 32) -> str:
    """Hashes a value: the first ``length`` hexadecimal digits of SHA-256 of its canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]
