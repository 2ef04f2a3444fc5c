"""Loading libraries and building parts without searches for garbage, or without a word."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Searches for no garbage, where a great many objects are made and all of them stay.

    torch is about two thousand modules: a quarter of the time that they take to load goes into
    searches, each over all that is there so far, that find nothing.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def untold(level: int = logging.INFO) -> Iterator[None]:
    """Keeps back what is said of parts that are only tried out: the run itself says it."""
    before = logging.root.manager.disable
    logging.disable(max(before, level))
    try:
        yield
    finally:
        logging.disable(before)
