"""Checking a config against the signatures that it will call, before anything is built."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from hydra.utils import get_object
from torch import Tensor

from lth_runner.values.errors import UserError, nearest
from lth_runner.values.search_path import hidden_by
from lth_runner.values.steps import Duration

_LIBRARIES = {"lth_runner", "torch", "torchvision"}  # meant, whatever lies in the folder
FP32 = torch.finfo(torch.float32)
LARGEST = 2**63 - 1  # of whole numbers, in torch as on disks
_HYDRA = MappingProxyType(  # what Hydra takes beside arguments, and its values
    {
        "_target_": "an import path",
        "_partial_": "true or false",
        "_recursive_": "true or false",
        "_args_": "a list",
        "_convert_": "none, partial, object or all",
    }
)
_NO_IMAGES = (
    "its samples are no images, which +augment= and dataset.augment transform: leave it out"
)
_WHY_NULL = MappingProxyType(
    {
        "dataset.num_classes": ", how many numbers the network answers (these data have none: "
        "objective=regression model.num_classes=1 goes with one number)",
    }
)


def check_targets(config: Any, written: Any = None) -> None:
    """Binds the keys of every ``_target_`` node to its signature, nested nodes too.

    Raises UserError naming the key, the part, and the nearest accepted names. With ``written``,
    the config before interpolation, a value is told by the key that it was set at.
    """
    for where, node in _targets(config, ""):
        _check(where, node, written)


def without_what_data_lack(model: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves out a shape or a number of classes that the data lack and the model does not take.

    Both follow the dataset, and Hydra's ``~`` removes no key of which the value is null.
    """
    try:
        taken = inspect.signature(get_object(str(model["_target_"]))).parameters
    except Exception:  # whatever a module of the user's raises is told where targets are checked
        return dict(model)
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        return dict(model)
    follows = {"shape", "num_classes"} - set(taken)
    return {key: value for key, value in model.items() if key not in follows or value is not None}


def _targets(config: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield path, config
        for key, value in config.items():
            yield from _targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from _targets(value, f"{path}[{index}]")


def _check_hydras(path: str, node: Mapping[str, Any]) -> None:
    """Refuses values of Hydra's own keys that it would stumble over."""
    fits = {
        "_partial_": isinstance(node.get("_partial_", False), bool),
        "_recursive_": isinstance(node.get("_recursive_", True), bool),
        "_args_": isinstance(node.get("_args_", []), list),
        "_convert_": node.get("_convert_", "none") in ("none", "partial", "object", "all"),
    }
    for key, right in fits.items():
        if not right:
            raise UserError(f"{path}.{key}={node[key]!r} must be {_HYDRA[key]}")


def _hints(target: Any) -> dict[str, Any]:
    try:
        return get_type_hints(target if inspect.isroutine(target) else target.__init__)
    except (NameError, TypeError, AttributeError):  # a stranger's annotations may not resolve
        return {}


def _check_value(path: str, value: Any, hint: Any) -> None:
    """Refuses what the signature does not want.

    That is a text or a fraction for a (whole) number, what is no list or mapping for one, what is
    no duration. A part of its own may become any of them.
    """
    if isinstance(value, Mapping) and "_target_" in value:
        return
    union = get_origin(hint) in (Union, UnionType)
    kinds = set(get_args(hint) if union else [hint]) - {NoneType}
    kinds -= {Tensor} if union else set()  # which no plain value is
    if _must_have_value(hint) and value is None:
        raise UserError(f"{path}=null must have a value")
    _check_size(path, value)
    if value is not None and kinds and value != "???":
        if all(map(_is_part, kinds)) and not isinstance(value, Mapping):
            raise UserError(f"{path}={value!r} must be a part, a mapping with a _target_")
        _check_text(path, value, kinds)
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


def _check_seed(key: str, path: str, value: Any) -> None:
    """Refuses a negative seed, whose part a hash or a library would take for another one."""
    if (key == "seed" or key.endswith("_seed")) and isinstance(value, int) and value < 0:
        raise UserError(f"{path}={value} must be a whole number of at least 0")


def _must_have_value(hint: Any) -> bool:
    """Returns whether a signature's annotation leaves out None."""
    kinds = set(get_args(hint) if get_origin(hint) in (Union, UnionType) else [hint])
    return hint is not None and not kinds & {NoneType, Any}


def _is_part(kind: Any) -> bool:
    """Returns whether a signature wants something that no plain value can be."""
    ours = inspect.isclass(kind) and kind.__module__.startswith("lth_runner.")
    return get_origin(kind) is Callable or (ours and kind is not Duration)


def _check_text(path: str, value: Any, kinds: Collection[Any]) -> None:
    """Refuses a list or a mapping where the signature wants a text or one of several."""
    texts = [kind for kind in kinds if kind is str or get_origin(kind) is Literal]
    if len(texts) == len(kinds) and isinstance(value, (Mapping, list, tuple)):
        named = [name for kind in texts for name in get_args(kind)]
        accepted = f": {', '.join(map(str, named))}" if named else ""
        raise UserError(f"{path}={value!r} must be one text and no list or mapping{accepted}")


def _refuse_no_text(path: str, value: Any, hint: Any, default: Any) -> None:
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


def _check_container(path: str, value: Any, kinds: Collection[Any]) -> None:
    origins = {get_origin(kind) for kind in kinds}
    if origins <= {Mapping, dict} and not isinstance(value, Mapping):
        raise UserError(f"{path}={value!r} must be a mapping, such as {{output: 0.1}}")
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
            _check_value(f"{path}[{index}]", item, hint)
    elif within in (Sequence, list, tuple) and isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_item(f"{path}[{index}]", item, of[0] if of else Any)
    elif within in (Mapping, dict) and isinstance(value, Mapping):
        for key, item in value.items():
            _check_item(f"{path}.{key}", item, of[1] if of else Any)


def _check_item(path: str, value: Any, hint: Any) -> None:
    if hint is str and (value is None or isinstance(value, (list, dict))):
        raise UserError(f"{path}={value!r} must be a text")
    _check_value(path, value, hint)


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
                    Duration.parse(one)
            except UserError as error:
                raise UserError(f"{path}{f'[{index}]' if many else ''}={error}") from None


def _set_at(path: str, written: Any) -> str:
    """Finds the key that a value comes from where ``path``, or what it lies in, is interpolated."""
    node, keys = written, path.split(".")
    for index, key in enumerate(keys, start=1):
        node = node.get(key) if isinstance(node, Mapping) else None
        source = re.fullmatch(r"\$\{([\w.]+)\}", node) if isinstance(node, str) else None
        if source:
            return _set_at(".".join([source[1], *keys[index:]]), written)
    return path


def _refuse_hidden(path: str, target: str) -> None:
    """Refuses a part that lies in the working folder, under a name that another module has."""
    module = target.partition(".")[0]
    if module not in _LIBRARIES and (other := hidden_by(module)) is not None:
        raise UserError(
            f"{path}._target_={target}: {module} of the current folder is hidden by {other}, since "
            "Python's own and installed modules go first: give yours another name"
        )


def _check(path: str, node: Mapping[str, Any], written: Any) -> None:
    target = node["_target_"]
    if target in (None, "???"):
        raise UserError(f"{path}._target_ is not set: give the import path of a class or function")
    try:
        found = get_object(str(target))
        parameters = inspect.signature(found).parameters
    except UserError:
        raise
    except Exception as error:
        _refuse_hidden(path, str(target))
        cause = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path}._target_={target} cannot be imported ({cause}): is the package installed, or "
            "the file in the current folder?"
        ) from error
    _refuse_hidden(path, str(target))
    _check_hydras(path, node)
    keys = [key for key in node if key not in _HYDRA]
    kinds = [parameter.kind for parameter in parameters.values()]
    accepted = [
        name
        for name, parameter in parameters.items()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for key in keys:
            if key not in accepted:
                options = (
                    nearest(key, accepted)
                    if accepted
                    else f"it takes none: let it take {key}, or leave it out with ~{path}.{key}"
                )
                if f"{path}.{key}" == "dataset.augment" and str(target).startswith("lth_runner."):
                    options = _NO_IMAGES
                raise UserError(f"{path}.{key} is not an option of {target}: {options}")
    hints = _hints(found)
    for key in keys:
        own, source = f"{path}.{key}", _set_at(f"{path}.{key}", written)
        if node[key] is None and source != own and _must_have_value(hints.get(key)):
            raise UserError(
                f"{own} follows {source}, which is null here, and {target} must have a value: "
                f"set {own}{_WHY_NULL.get(source, '')}"
            )
        _check_seed(key, source, node[key])
        _check_value(source, node[key], hints.get(key))
        own_default = parameters[key].default if key in parameters else ""
        _refuse_no_text(source, node[key], hints.get(key), own_default)
    missing = [
        name
        for name in accepted
        if parameters[name].default is inspect.Parameter.empty
        and (name not in keys or node[name] == "???")
    ]
    if missing and not node.get("_partial_") and not node.get("_args_"):
        raise UserError(f"{path} ({target}) needs {', '.join(missing)}, which is not set")
