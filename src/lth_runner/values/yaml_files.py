"""YAML that somebody else may have written: what is read of it fits into memory and time."""

from __future__ import annotations

from typing import Any

import yaml

from lth_runner.values.raised import reason_of

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MOST_NODES = 100_000  # that a text stands for, all that its aliases repeat counted


def loaded(text: str) -> Any:
    """Returns what a text holds; raises ValueError for what is no YAML, or stands for too much.

    A few lines of aliases, each repeating the one before ten times, stand for more than any memory
    holds.
    """
    try:
        if "&" in text:
            _check(text)
        return yaml.load(text, LOADER)
    # its constructors raise whatever the numbers and dates that they are given come to
    except (
        yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError,
        RecursionError,
    ) as error:  # fmt: skip
        reason = reason_of(error)
        raise ValueError(reason) from error


def _check(text: str) -> None:
    """Counts nodes by the events of a text, which makes none of them."""
    sizes: dict[str, int] = {}  # by anchor
    begun: list[tuple[str | None, int]] = []  # anchor of what is open, and the count before it
    count = 0
    for event in yaml.parse(text, LOADER):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise ValueError(f"*{event.anchor} stands within what it repeats, or before it")
            count += sizes[event.anchor]
        elif isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, count))
            count += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            if anchor is not None:
                sizes[anchor] = count - before
        elif isinstance(event, yaml.ScalarEvent):
            count += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if count > MOST_NODES:
            raise ValueError(f"it stands for more than {MOST_NODES:,} values")
