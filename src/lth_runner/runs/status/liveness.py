"""Signs of life of a process that left its number in a file, and of files and time stamps."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lth_runner.values.processes import is_alive, seconds_of_begin

SILENT_SECONDS = 600.0
SLACK_SECONDS = 60.0  # between a process's begin and the clock it read afterwards


def lives(owner: Mapping[str, Any], since: datetime | None) -> bool | None:
    """Whether the process ``owner`` (``host``, ``pid``) lives; None where that cannot be known.

    A process that began after ``since``, when the owner is known to have lived, only has its
    number; one that has ended and that its parent has not waited for has its number still.
    """
    pid = owner.get("pid")
    if owner.get("host") != socket.gethostname() or not isinstance(pid, int) or pid <= 0:
        return None
    if not is_alive(pid):
        return False
    began = seconds_of_begin(pid)
    return began is None or since is None or began - since.timestamp() < SLACK_SECONDS


def moment(text: object) -> datetime | None:
    """Reads an ISO time stamp; UTC where it names no zone, None where it is none."""
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))  # 3.10 knows no Z
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def seconds_since(stamp: datetime | None, now: datetime) -> float:
    """Counts the seconds from a time stamp to now; infinite where there is none."""
    return float("inf") if stamp is None else (now - stamp).total_seconds()


def age(path: Path, now: datetime) -> float:
    """Counts the seconds since a file was touched; infinite where there is none."""
    try:
        return now.timestamp() - path.stat().st_mtime
    except OSError:
        return float("inf")
