"""Whether a process that left its number somewhere still lives on this machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def place() -> str:
    """Returns where process numbers mean the same: a host, its boot, its process namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        space = str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        boot = space = ""
    return f"{socket.gethostname()}/{boot}/{space}"


def is_alive(pid: int) -> bool:
    """Returns whether a process runs: one that has ended, but was not waited for, does not.

    A number that no process can have (0, a negative or a huge one) is that of none.
    """
    if pid <= 0:  # os.kill takes these for groups of processes
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return _facts(pid)[:1] not in (["Z"], ["X"])


def began(pid: int) -> str | None:
    """Returns when a process began, in ticks since the boot; None without /proc.

    A number that is used again is another process.
    """
    facts = _facts(pid)
    return facts[19] if len(facts) > 19 else None


def seconds_of_begin(pid: int) -> float | None:
    """Returns when a process began, in seconds since 1970; None without /proc."""
    ticks = began(pid)
    if ticks is None:
        return None
    try:
        lines = Path("/proc/stat").read_text().splitlines()
        boot = next(int(line.split()[1]) for line in lines if line.startswith("btime "))
        return boot + int(ticks) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, StopIteration):
        return None


def _facts(pid: int) -> list[str]:
    """What /proc/<pid>/stat says behind the name, the state first; nothing without /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
