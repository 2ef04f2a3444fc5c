"""Leases say which process is at work on a training, by a file that it owns and keeps warm.

Processes on one machine, or on nodes with a shared file system, agree through the file alone. An
owner that died is noticed by its cold file, on its own machine by its process being gone. Should
two ever hold one lease (an owner that slept past its file's warmth), they do the same work twice:
what they write is the same, and each file is written whole.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from lth_runner.values.json_files import read_object
from lth_runner.values.processes import began, is_alive, place

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
        """Takes the lease on ``path``; None while another process is alive that has it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        token = secrets.token_hex(8)
        owner = {"place": place(), "pid": os.getpid(), "began": began(os.getpid())}
        for _ in range(2):
            try:  # the file system lets one process alone create it
                handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            except FileExistsError:
                if not _set_cold_aside(path, token, cold_seconds):
                    return None
                continue
            with os.fdopen(handle, "w") as opened:
                json.dump({**owner, "token": token}, opened)
            lease = cls(path, token)
            threading.Thread(target=lease._keep_warm, daemon=True).start()
            return lease
        return None

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


def is_elsewhere(path: Path) -> bool:
    """Whether a lease's owner is where its process cannot be looked at from here."""
    return _read(path).get("place") not in (None, place())


def _set_cold_aside(path: Path, token: str, cold_seconds: float) -> bool:
    """Removes the lease of an owner that is gone; False where one is alive, or was quicker."""
    judged = _read(path)
    if not _is_cold(path, judged, cold_seconds):
        return False
    aside = path.with_name(f".{path.name}.{token}.cold")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return True  # another process removed it: whoever creates the file has the lease
    taken = _read(aside)
    if taken.get("token") != judged.get("token") and not path.exists():
        aside.rename(path)  # not the one that was judged: another had renewed it meanwhile
        return False
    aside.unlink(missing_ok=True)
    return True


def _is_cold(path: Path, owner: dict[str, object], cold_seconds: float) -> bool:
    pid = owner.get("pid")
    if owner.get("place") == place() and isinstance(pid, int):
        return not (is_alive(pid) and began(pid) == owner.get("began"))
    try:
        return _now_on_disk(path.parent) - path.stat().st_mtime > cold_seconds
    except FileNotFoundError:
        return True


def _read(path: Path) -> dict[str, object]:
    return read_object(path) or {}


def _now_on_disk(folder: Path) -> float:
    """Reads the file server's clock, since nodes' own clocks differ."""
    probe = folder / f".now.{os.getpid()}.{time.monotonic_ns()}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)
