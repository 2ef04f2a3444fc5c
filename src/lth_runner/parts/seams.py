"""The check that every part does what its seam asks of it, whoever has written it."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from lth_runner.values import identity
from lth_runner.values.errors import UserError


def check_seam(key: str, part: Any, seam: type) -> None:
    """Raises UserError for a part without what its seam has, or without an identity.

    The parts that it is made of are checked as well, where its fields say what they are to be;
    those that it is not told from others by, as data, need no identity.
    """
    check_members(key, part, seam)
    for field, inner, hint in _fields(part):
        check = check_seam if field.compare else check_members
        check(f"{key}.{field.name}", inner, hint)
    try:
        identity.describe(part)
    except TypeError as error:
        said = re.sub(" at 0x[0-9a-f]+", "", str(error))
        raise UserError(f"{key}: {said} (results are stored under it)") from error


def check_members(key: str, part: Any, seam: type) -> None:
    """Raises UserError for a part without what its seam has, or that is of no class that it is."""
    if not getattr(seam, "_is_protocol", False) and not isinstance(part, seam):
        raise UserError(f"{key}: {_named(part)} is no {seam.__module__}.{seam.__name__}")
    for name in _asked(seam):
        # of the class first: a property may take long
        if not (
            callable(part)
            if name == "__call__"
            else hasattr(type(part), name) or hasattr(part, name)
        ):
            raise UserError(
                f"{key}: {_named(part)} is no {seam.__name__}, which must have {_shown(seam, name)}"
            )


def _asked(seam: type) -> list[str]:
    """The names that a protocol declares, its own and those that it is derived from."""
    found: dict[str, None] = {}
    for one in seam.__mro__:
        if getattr(one, "_is_protocol", False):
            declared = {**vars(one), **vars(one).get("__annotations__", {})}
            names = (n for n in declared if n == "__call__" or not n.startswith("_"))
            found |= dict.fromkeys(names)
    return list(found)


def _fields(part: Any) -> Iterator[tuple[dataclasses.Field[Any], Any, type]]:
    """The fields of a part that are parts again, with their values and seams."""
    if not dataclasses.is_dataclass(part):
        return
    try:
        hints = get_type_hints(type(part))
    except (NameError, TypeError):  # a stranger's annotations may not resolve
        return
    for field in dataclasses.fields(part):
        value, hint = getattr(part, field.name), hints.get(field.name)
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        seams = [kind for kind in kinds if _is_seam(kind)]
        if value is not None and len(seams) == 1:
            yield field, value, seams[0]


def _is_seam(kind: Any) -> bool:
    """Whether a field is to hold a part: what does something, or a dataclass of its own keys."""
    is_class = isinstance(kind, type)
    return is_class and (getattr(kind, "_is_protocol", False) or dataclasses.is_dataclass(kind))


def _named(part: Any) -> str:
    if isinstance(part, (Mapping, list, str, int, float)):
        return repr(part)
    return f"{type(part).__module__}.{type(part).__qualname__}"


def _shown(seam: type, name: str) -> str:
    member = inspect.getattr_static(seam, name, None)
    if not inspect.isfunction(member):
        return name
    parameters = [p for p in inspect.signature(member).parameters if p != "self"]
    return f"{name}({', '.join(parameters)})"
