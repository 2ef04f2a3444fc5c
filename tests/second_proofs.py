"""Cases that prove once more what others of a test prove: `make test-slow` takes them too."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest


def mostly_slow(values: Iterable[Any], quick: Collection[Any]) -> list[Any]:
    """Leaves to `make test` those that are in ``quick``, each of which must be there."""
    values = list(values)
    assert all(value in values for value in quick)
    return [
        value if value in quick else pytest.param(value, marks=pytest.mark.slow) for value in values
    ]


def mostly_slow_by_name(values: Mapping[str, Any], quick: Collection[str]) -> list[Any]:
    """Does so with values that have names; a tuple holds several arguments."""
    assert set(quick) <= values.keys()
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            id=name,
            marks=() if name in quick else pytest.mark.slow,
        )
        for name, value in values.items()
    ]
