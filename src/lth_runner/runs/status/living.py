"""Whether a process that left its number in a file still lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

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
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    facts = _facts(pid)
    if facts[:1] in (["Z"], ["X"]):
        return False
    began = _began(facts)
    return began is None or since is None or began - since.timestamp() < SLACK_SECONDS


def _facts(pid: int) -> list[str]:
    """What /proc/<pid>/stat says behind the name, the state first; nothing without /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _began(facts: Sequence[str]) -> float | None:
    """When a process began, in seconds since 1970; None without /proc."""
    try:
        ticks = int(facts[19])
        lines = Path("/proc/stat").read_text().splitlines()
        boot = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
    except (OSError, IndexError, ValueError, StopIteration):
        return None
    return boot + ticks / os.sysconf("SC_CLK_TCK")


def moment(text: object) -> datetime | None:
    """An ISO time stamp; UTC where it names no zone, None where it is none."""
    try:
        found = datetime.fromisoformat(str(text).replace("Z", "+00:00"))  # 3.10 knows no Z
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def seconds_since(stamp: datetime | None, now: datetime) -> float:
    """Seconds from a time stamp to now; infinite where there is none."""
    return float("inf") if stamp is None else (now - stamp).total_seconds()
