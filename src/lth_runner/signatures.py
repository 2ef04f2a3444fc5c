"""Checks a config against the signatures it will call, before anything is built."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from hydra.utils import get_object

from lth_runner.errors import UserError, nearest

_HYDRA = {"_target_", "_partial_", "_args_", "_convert_", "_recursive_"}


def check_targets(config: Any, path: str = "") -> None:
    """Binds the keys of every ``_target_`` node to its signature, nested nodes too.

    Raises UserError naming the key, the part, and the nearest accepted names.
    """
    for where, node in _targets(config, path):
        _check(where, node)


def _targets(config: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield path, config
        for key, value in config.items():
            yield from _targets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(config, list):
        for index, value in enumerate(config):
            yield from _targets(value, f"{path}[{index}]")


def _check(path: str, node: Mapping[str, Any]) -> None:
    target = node["_target_"]
    if target in (None, "???"):
        raise UserError(f"{path}._target_ is not set: give the import path of a class or function")
    try:
        found = get_object(str(target))
        parameters = inspect.signature(found).parameters
    except UserError:
        raise
    except Exception as error:
        cause = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{path}._target_={target} cannot be imported ({cause}): is the package installed, or "
            "the file in the current folder?"
        ) from error
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
                raise UserError(
                    f"{path}.{key} is not an option of {target}: {nearest(key, accepted)}"
                )
    missing = [
        name
        for name in accepted
        if parameters[name].default is inspect.Parameter.empty
        and (name not in keys or node[name] == "???")
    ]
    if missing and not node.get("_partial_") and not node.get("_args_"):
        raise UserError(f"{path} ({target}) needs {', '.join(missing)}, which is not set")
