"""A parametrised module's class, which its copies share."""

from __future__ import annotations

from torch import nn
from torch.nn.utils import parametrize


def own_class(part: nn.Module) -> None:
    """Gives a parametrised module a class of its own; another one stays as it is.

    torch adds properties to the class and deletes them from it, one for each parametrised tensor:
    what is done to one module would be done to all its copies.
    """
    if parametrize.is_parametrized(part):
        shared = type(part)
        part.__class__ = type(shared.__name__, shared.__bases__, dict(vars(shared)))
