"""Choosing tensors by shell-style patterns of their names: ``output``, ``conv*``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from lth_runner.values.errors import UserError, nearest


def as_names(given: Iterable[str] | str | None) -> tuple[str, ...]:
    """Lists names, or patterns of them; one that stands alone is a list of one, None of none."""
    return (given,) if isinstance(given, str) else tuple(given or ())


def select(patterns: Iterable[str] | str, names: Iterable[str], key: str) -> frozenset[str]:
    """Selects the names that any pattern matches; ``output`` also stands for ``output.*``.

    Raises UserError, naming the config ``key``, for a pattern that matches nothing.
    """
    names, chosen = list(names), set[str]()
    for pattern in map(str, as_names(patterns)):  # layers of nn.Sequential are called by numbers
        hits = {name for name in names if matches([pattern], name)}
        if not hits:
            known = nearest(pattern, names) if names else "there is none: leave it out"
            raise UserError(f"{key}: {pattern!r} matches no tensor; {known}")
        chosen |= hits
    return frozenset(chosen)


def others(patterns: Iterable[str] | str, names: Iterable[str], key: str) -> list[str]:
    """Lists the names of layers that no pattern matches; raises UserError where there is none."""
    names = list(names)
    chosen = select(patterns, names, key)
    left = [name for name in names if name not in chosen]
    if not left:
        raise UserError(f"{key}={list(as_names(patterns))} leaves no layer to prune")
    return left


def spares_others(patterns: Iterable[str] | str, key: str) -> str:
    """Ends a message on layers that stay anyway with those that patterns add; nothing for none."""
    names = list(as_names(patterns))
    return f", and {key}={names} spares the others" if names else ""


def matches(patterns: Iterable[str], name: str) -> bool:
    """Whether a name is one that any pattern matches."""
    return any(
        fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*") for pattern in patterns
    )


def value_for(values: Mapping[str, float], names: Iterable[str], key: str) -> dict[str, float]:
    """Gives each name that a pattern matches the pattern's value; the last match wins."""
    names = list(names)
    return {n: value for pattern, value in values.items() for n in select([pattern], names, key)}
