"""What a network holds besides its weights when it is built: results may depend on it.

No State has it: a buffer that is not persistent, a plain tensor, a number or a list, which may have
been read from a file.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Any

from torch import nn

from lth_runner.values import identity
from lth_runner.values.object_identity import describe_object


def is_shipped(builder: Any, classes: Iterable[type[nn.Module]]) -> bool:
    """Whether what builds a network is this program's, and no class of its modules a user's.

    Classes of torch and of transformers are nobody's own. A builder of torch's or torchvision's
    may be told to load weights: it is not this program's.
    """
    while isinstance(builder, functools.partial):
        builder = builder.func
    ours = str(getattr(builder, "__module__", "")).startswith("lth_runner.problem.")
    return ours and not any(identity.source(one).keys() - {identity.VERSION} for one in classes)


def held_fingerprint(module: nn.Module) -> str:
    """Hashes what a fresh network and its parts hold, by path and name, as far as it is seen.

    What has no identity, as a function that captures values, and what says where something lies
    are left out: code is told by its source.
    """
    return identity.digest(dict(_described(module)))


def _described(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in _held(module):
        is_path = isinstance(value, PurePath) or (isinstance(value, str) and os.sep in value)
        if is_path:
            continue
        try:
            yield name, repr(value) if isinstance(value, float) else describe_object(value)
        except (TypeError, ValueError, AttributeError, RuntimeError, RecursionError):
            continue


def _held(module: nn.Module) -> Iterator[tuple[str, Any]]:
    alike = vars(nn.Module()).keys()
    for path, part in module.named_modules():
        is_own = bool(identity.source(type(part)))
        for name, value in vars(part).items():
            if name not in alike and (is_own or not name.startswith("_")):
                yield f"{path}.{name}", value
        for name in part._non_persistent_buffers_set:
            if part._buffers.get(name) is not None:
                yield f"{path}.{name}", part._buffers[name]
