"""Checking a config against the signatures that it will call, before anything is built."""

from __future__ import annotations

import inspect
import re
from collections.abc import Hashable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, get_type_hints

from hydra.utils import get_object

from lth_runner.cli.annotated_values import check_value, must_have_value, refuse_no_text
from lth_runner.values.errors import UserError, nearest
from lth_runner.values.search_path import hidden_by

_LIBRARIES = {"lth_runner", "torch", "torchvision"}  # meant, whatever lies in the folder
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
    """Reads the annotations of a signature, but for those that are none of types."""
    called = target if inspect.isroutine(target) else target.__init__
    if called is object.__init__:
        called = target.__new__
    try:
        found = get_type_hints(called)
    except Exception:  # a stranger's annotations are any text, and may not resolve
        return {}
    return {name: hint for name, hint in found.items() if isinstance(hint, Hashable)}


def _check_seed(key: str, path: str, value: Any) -> None:
    """Refuses a negative seed, whose part a hash or a library would take for another one."""
    if (key == "seed" or key.endswith("_seed")) and isinstance(value, int) and value < 0:
        raise UserError(f"{path}={value} must be a whole number of at least 0")


def _set_at(path: str, written: Any) -> str:
    """Finds the key that a value comes from where ``path``, or what it lies in, is interpolated."""
    node, keys = written, path.split(".")
    for index, key in enumerate(keys, start=1):
        node = node.get(key) if isinstance(node, Mapping) else None
        source = re.fullmatch(r"\$\{(\.*)([\w.]+)\}", node) if isinstance(node, str) else None
        if source:  # ${.x} lies beside it, ${..x} one above
            above = keys[: index - len(source[1])] if source[1] else []
            return _set_at(".".join([*above, source[2], *keys[index:]]), written)
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
        own_default = parameters[key].default if key in parameters else ""
        if node[key] is None and own_default is None:
            continue  # whatever the annotation is
        if node[key] is None and source != own and must_have_value(hints.get(key)):
            raise UserError(
                f"{own} follows {source}, which is null here, and {target} must have a value: "
                f"set {own}{_WHY_NULL.get(source, '')}"
            )
        _check_seed(key, source, node[key])
        check_value(source, node[key], hints.get(key))
        refuse_no_text(source, node[key], hints.get(key), own_default)
    missing = [
        name
        for name in accepted
        if parameters[name].default is inspect.Parameter.empty
        and (name not in keys or node[name] == "???")
    ]
    if missing and not node.get("_partial_") and not node.get("_args_"):
        raise UserError(f"{path} ({target}) needs {', '.join(missing)}, which is not set")
