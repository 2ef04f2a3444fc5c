"""Names and numbers in a message: of names the first few, and how many others there are."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

NAMED = 4  # names that a message has room for


def listed(names: Collection[str], most: int = NAMED) -> str:
    """Lists names as "a, b and 3 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(islice(names, most)) + more


def numbers_listed(numbers: Collection[int]) -> str:
    """Lists all of some numbers as "0, 1, 2"; "none" where there are none."""
    return ", ".join(map(str, numbers)) or "none"
