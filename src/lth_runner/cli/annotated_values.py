"""Checking a plain value of a config against the annotation of the argument that it is for."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import torch
from torch import Tensor

from lth_runner.values.errors import UserError, nearest
from lth_runner.values.steps import Duration, Growing

FP32 = torch.finfo(torch.float32)
SCALARS = (int, float, bool, str)
CONTAINERS = (Sequence, list, tuple, Mapping, dict)
LARGEST = 2**63 - 1  # of whole numbers, in torch as on disks


def check_value(path: str, value: Any, hint: Any) -> None:
    """Refuses what the signature does not want.

    That is a text or a fraction for a (whole) number, what is no list or mapping for one, what is
    no duration. A part of its own may become any of them.
    """
    if isinstance(value, Mapping) and "_target_" in value:
        return
    union = get_origin(hint) in (Union, UnionType)
    kinds = set(get_args(hint) if union else [hint]) - {NoneType}
    kinds -= {Tensor} if union else set()  # which no plain value is
    if value is not None and len(kinds) > 1 and _are_plain(kinds):
        _check_each(path, value, kinds)
        return
    if must_have_value(hint) and value is None:
        raise UserError(f"{path}=null must have a value")
    _check_size(path, value)
    if value is not None and kinds and value != "???":
        if all(map(_is_part, kinds)):
            raise UserError(f"{path}={value!r} must be a part, a mapping with a _target_")
        _check_text(path, value, kinds)
        _check_choice(path, value, kinds)
        _check_container(path, value, kinds)
        _check_items(path, value, kinds)
        _check_durations(path, value, kinds)
    wanted = kinds & {int, float, bool}
    if not wanted or kinds - wanted or value == "???":
        return
    accepts = (int, float) if float in kinds else tuple(wanted)
    flag = isinstance(value, bool)
    if value is None or ((bool in kinds) if flag else isinstance(value, accepts)):
        return
    name = (
        "true or false" if wanted == {bool} else "a number" if float in kinds else "a whole number"
    )
    raise UserError(f"{path}={value!r} must be {name}")


def refuse_no_text(path: str, value: Any, hint: Any, default: Any) -> None:
    """Refuses a number or an empty text where the signature wants a text; neither means null.

    An empty one is meant where it is the default.
    """
    union = get_origin(hint) in (Union, UnionType)
    kinds = set(get_args(hint) if union else [hint])
    if kinds - {NoneType} != {str}:
        return
    if isinstance(value, (int, float)):
        raise UserError(
            f"{path}={value!r} must be a text; quotes make it one: '{path}=\"{value}\"'"
        )
    if value == "" != default:
        null = ", or null" if NoneType in kinds else ""
        raise UserError(f"{path}={value!r} must be a text that is not empty{null}")


def _check_size(path: str, value: Any) -> None:
    """Refuses numbers that no machine computes with, at any depth of plain values."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_size(f"{path}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_size(f"{path}[{index}]", item)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{path}={value} must be a finite number")
    elif isinstance(value, float) and abs(value) > FP32.max:
        raise UserError(
            f"{path}={value} is too large: networks compute in single precision, which ends at "
            f"{FP32.max:.2g}"
        )
    elif isinstance(value, float) and 0 < abs(value) < FP32.tiny:
        raise UserError(
            f"{path}={value} is too close to 0: networks compute in single precision, for which "
            f"that is 0 below {FP32.tiny:.2g}: give 0, or more"
        )
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise UserError(f"{path}={value:.4g} is too large: give at most {LARGEST}")


def must_have_value(hint: Any) -> bool:
    """Returns whether a signature's annotation leaves out None."""
    kinds = set(get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint])
    if any(get_origin(kind) is Literal and None in get_args(kind) for kind in kinds):
        return False
    return hint is not None and not kinds & {NoneType, Any}


def _are_plain(kinds: Collection[Any]) -> bool:
    """Whether all are plain values, lists or mappings of them; not all numbers, nor all choices."""
    origins = {get_origin(kind) or kind for kind in kinds}
    plain = origins <= {*SCALARS, *CONTAINERS, Literal}
    return plain and not origins <= {int, float, bool} and origins != {Literal}


def _check_each(path: str, value: Any, kinds: Collection[Any]) -> None:
    """Refuses a value that fits none of several annotations."""
    _check_size(path, value)
    for kind in kinds:
        try:
            return check_value(path, value, kind)
        except UserError:
            continue
    raise UserError(
        f"{path}={value!r} must be one of these: {', '.join(sorted(map(_name, kinds)))}"
    )


def _name(kind: Any) -> str:
    """Calls an annotation as it is written, and a choice by its values."""
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    return str(kind.__name__ if get_origin(kind) is None else kind).replace("collections.abc.", "")


def _is_part(kind: Any) -> bool:
    """Returns whether a signature wants something that no plain value can be."""
    ours = inspect.isclass(kind) and kind.__module__.startswith("lth_runner.")
    return get_origin(kind) is Callable or (ours and kind not in (Duration, Growing))


def _check_text(path: str, value: Any, kinds: Collection[Any]) -> None:
    """Refuses a list or a mapping where the signature wants a text or one of several."""
    texts = [kind for kind in kinds if kind is str or get_origin(kind) is Literal]
    if len(texts) == len(kinds) and isinstance(value, (Mapping, list, tuple)):
        named = [name for kind in texts for name in get_args(kind)]
        accepted = f": {', '.join(map(str, named))}" if named else ""
        raise UserError(f"{path}={value!r} must be one text and no list or mapping{accepted}")


def _check_choice(path: str, value: Any, kinds: Collection[Any]) -> None:
    """Refuses what is none of the values that the signature lists."""
    if not all(get_origin(kind) is Literal for kind in kinds):
        return
    accepted = [choice for kind in kinds for choice in get_args(kind)]
    if not any(type(value) is type(one) and value == one for one in accepted):
        raise UserError(f"{path}={value!r}: {nearest(str(value), map(str, accepted))}")


def _check_container(path: str, value: Any, kinds: Collection[Any]) -> None:
    origins = {get_origin(kind) or kind for kind in kinds}
    if origins <= {Mapping, dict} and not isinstance(value, Mapping):
        raise UserError(f"{path}={value!r} must be a mapping, such as {{name: value}}")
    if not origins <= {Sequence, list, tuple} or isinstance(value, (list, tuple)):
        return
    one_pattern = value and isinstance(value, str) and all(get_args(k) == (str,) for k in kinds)
    if not one_pattern:
        raise UserError(f"{path}={value!r} must be a list: write '{path}=[{value}]'")


def _check_items(path: str, value: Any, kinds: Collection[Any]) -> None:
    """Refuses items that the signature does not want in its list, pair or mapping."""
    if len(kinds) != 1:
        return
    [kind] = kinds
    of, within = get_args(kind), get_origin(kind)
    if within is tuple and of and Ellipsis not in of and isinstance(value, (list, tuple)):
        if len(value) != len(of):
            raise UserError(f"{path}={list(value)} must be a list of {len(of)} values")
        for index, (item, hint) in enumerate(zip(value, of, strict=True)):
            check_value(f"{path}[{index}]", item, hint)
    elif within in (Sequence, list, tuple) and isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_item(f"{path}[{index}]", item, of[0] if of else Any)
    elif within in (Mapping, dict) and isinstance(value, Mapping):
        for key, item in value.items():
            _check_item(f"{path}.{key}", item, of[1] if of else Any)


def _check_item(path: str, value: Any, hint: Any) -> None:
    if hint is str and (value is None or isinstance(value, (list, dict))):
        raise UserError(f"{path}={value!r} must be a text")
    check_value(path, value, hint)


def _check_durations(path: str, value: Any, kinds: Collection[Any]) -> None:
    """Refuses, by its key, what is no duration where the signature wants one or a list of them."""
    for kind in kinds:
        listed = get_origin(kind) is Sequence
        of = get_args(kind)[0] if listed else kind
        if Duration not in (of, *get_args(of)):
            continue
        many = isinstance(value, (list, tuple))
        if many and not listed:
            raise UserError(f"{path}={value!r} must be one duration and no list: 500it, 12ep, 10%")
        for index, one in enumerate(value if many else [value]):
            try:
                if not (isinstance(one, Mapping) and "_target_" in one):  # a part
                    (Growing if Growing in kinds else Duration).parse(one)
            except UserError as error:
                raise UserError(f"{path}{f'[{index}]' if many else ''}={error}") from None
