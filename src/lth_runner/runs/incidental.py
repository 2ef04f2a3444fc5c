"""Config keys that change no result, so that runs that differ in them alone are the same run."""

from __future__ import annotations

import re

KEYS = (
    *("paths", "record", "report", "probe", "store", "threads", "hydra"),
    *("train.snapshots", "train.checkpoint_minutes", "dataset.workers"),
)
_ONE_OF_THEM = re.compile(rf"({'|'.join(map(re.escape, KEYS))})([./].*)?")


def is_incidental(key: str) -> bool:
    """Returns whether a key, such as ``paths.outputs`` or ``hydra/launcher``, changes no result."""
    return _ONE_OF_THEM.fullmatch(key) is not None
