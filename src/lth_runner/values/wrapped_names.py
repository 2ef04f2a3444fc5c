"""The names of a network's tensors without what wrappers put before them."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from lth_runner.values import state as states
from lth_runner.values.errors import UserError

# what torch.compile, FSDP and activation checkpointing call the module that they wrap
_WITHIN = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)  # who call it ``module``


def plain(name: str) -> str:
    """Removes from a name the parts that wrappers have put into it."""
    return ".".join(part for part in name.split(".") if part not in _WITHIN)


def plain_names(module: nn.Module) -> dict[str, str]:
    """Maps the plain name of each tensor of a network, wrapped or not, to its name there."""
    parallel = {path for path, part in module.named_modules() if isinstance(part, _PARALLEL)}

    def unwrapped(name: str) -> str:
        parts = name.split(".")
        kept = [
            part
            for index, part in enumerate(parts)
            if not (part == "module" and ".".join(parts[:index]) in parallel)
        ]
        return plain(".".join(kept))

    return {unwrapped(name): name for name, _ in states.named_tensors(module)}


def matched(held: Iterable[str], wanted: Iterable[str]) -> dict[str, str]:
    """Maps plain names to those that a file holds, of a network that was wrapped when it was saved.

    ``wanted`` are a network's plain names: where all of the file's begin with ``module.``, and none
    of those do, they are the names of a network in a parallel wrapper. Raises UserError for two
    names that are one without wrappers.
    """
    found: dict[str, str] = {}
    for name in held:
        if (first := found.setdefault(plain(name), name)) != name:
            raise UserError(
                f"{first} and {name} are one tensor but for the name of a wrapper, and which one "
                "is meant cannot be told: leave one out of the file"
            )
    wrapped = all(name.startswith("module.") for name in found)
    if wrapped and not any(name.startswith("module.") for name in wanted):
        return {name.removeprefix("module."): own for name, own in found.items()}
    return found
