"""One part of a config at a time: what its ``_target_`` names, called with the keys beside it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from torch import nn

from lth_runner.parts.seams import check_seam
from lth_runner.values.errors import UserError
from lth_runner.values.raised import first_line


def make(node: Mapping[str, Any]) -> Any:
    """Builds one part; a UserError raised in its making comes out as it is."""
    try:
        return instantiate({**node, "_convert_": "all"})  # as an argument it would be merged
    except InstantiationException as error:
        raise _root_cause(error) from error


def part(values: Mapping[str, Any], key: str, seam: type) -> Any:
    """Builds the part at a dotted key, and checks that it is what its place asks for."""
    node: Any = values
    for name in key.split(".", 1):  # a control's or a probe's name may hold dots
        node = node[name]
    made = make(node)
    check_seam(key, made, seam)
    return made


def _root_cause(error: InstantiationException) -> UserError:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    if isinstance(cause, UserError):
        return cause
    return UserError(first_line(error.__cause__ or error))


def model_factory(node: Mapping[str, Any]) -> Callable[[], nn.Module]:
    """Returns what builds a network, as often as it is called, from the config's ``model``.

    That is a function or a class of networks with its arguments, or a part that is itself called.
    """
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    target = get_object(node["_target_"])
    if dataclasses.is_dataclass(target) and not issubclass(cast(type, target), nn.Module):
        made: Callable[[], nn.Module] = make(node)
        return made
    if any(isinstance(value, dict) and "_target_" in value for value in arguments.values()):
        # the parts of a network are built anew with each network, none shared between replicates
        return functools.partial(_nested_model, node=node, of=target)
    return functools.partial(target, **arguments)


def _nested_model(*, node: Mapping[str, Any], of: Callable[..., nn.Module]) -> nn.Module:
    """Builds a network whose arguments are parts; ``of`` puts its class into the identity."""
    return make(node)
