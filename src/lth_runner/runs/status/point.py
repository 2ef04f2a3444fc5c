"""The points of an outputs folder, which are its runs, begun or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lth_runner.runs.folder import ENDED
from lth_runner.runs.measure import Ending

STATES = (
    "failed", "dead", "missing", "refused", "diverged", "interrupted", "running", "waiting", "done",
)  # fmt: skip
BAD = ("failed", "dead", "missing", "refused", "diverged")
SETTLED = ("refused", *ENDED)  # the same command would end in the same way


@dataclass(frozen=True)
class Point:
    """A run, begun or not; ``reason`` says why it failed, is dead, missing or refused."""

    state: str
    name: str
    run_id: str | None
    folder: Path | None = None
    command: str | None = None
    reason: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)  # flat
    status: Mapping[str, Any] = field(default_factory=dict)
    may_live: bool = False  # silent, yet its process is there: not to be started twice
    progress: float | None = None  # 0..1
    seconds_left: float | None = None
    ending: Ending | None = None  # of a point that is done
