"""Who is at work on a training: a file that one process owns and keeps warm.

Processes on one machine, or on nodes with a shared file system, agree through the file alone. An
owner that died is noticed by its cold file, on its own machine by its process being gone. Two that
race for a cold file may at worst both win and do the same work twice: what they write is the same
and each file is written whole.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

BEAT_SECONDS = 10.0
COLD_SECONDS = 90.0


@dataclass(frozen=True)
class Lease:
    """A taken lease; ``release`` gives it back. A daemon thread keeps it warm until then."""

    path: Path
    token: str
    _ended: threading.Event = field(default_factory=threading.Event, compare=False)

    @classmethod
    def take(cls, path: Path, *, cold_seconds: float = COLD_SECONDS) -> Lease | None:
        """The lease on ``path``, or None while another process is alive that has it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not _is_cold(path, cold_seconds):
            return None
        token = secrets.token_hex(8)
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}
        scratch = path.with_name(f".{path.name}.{token}")
        try:
            scratch.write_text(json.dumps({**owner, "token": token}))
            if path.exists():  # cold: its owner is gone
                path.unlink(missing_ok=True)
            os.link(scratch, path)  # fails where another was quicker
        except FileExistsError:
            return None
        finally:
            scratch.unlink(missing_ok=True)
        lease = cls(path, token)
        threading.Thread(target=lease._keep_warm, daemon=True).start()
        return lease

    def release(self) -> None:
        """Gives the lease back, unless another process took it over as cold."""
        self._ended.set()
        if _read(self.path).get("token") == self.token:
            self.path.unlink(missing_ok=True)

    def _keep_warm(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            try:
                os.utime(self.path)
            except OSError:  # taken over, or the disk is away: the training itself will tell
                return


def _is_cold(path: Path, cold_seconds: float) -> bool:
    owner = _read(path)
    if owner.get("host") == socket.gethostname():
        pid = owner.get("pid")
        if isinstance(pid, int) and not (_is_alive(pid) and _began(pid) == owner.get("began")):
            return True
    try:
        return _now_on_disk(path.parent) - path.stat().st_mtime > cold_seconds
    except FileNotFoundError:
        return True


def _read(path: Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _began(pid: int) -> str | None:
    """When a process began, in its kernel's ticks: a number used again is another process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _now_on_disk(folder: Path) -> float:
    """The file server's clock: nodes' own clocks differ."""
    probe = folder / f".now.{os.getpid()}.{time.monotonic_ns()}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
