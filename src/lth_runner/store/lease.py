"""Leases say which process is at work on a training, by a file that it owns and keeps warm.

Processes on one machine, or on nodes with a shared file system, agree through the file alone. An
owner that died is noticed by its cold file, on its own machine by its process being gone. Should
two ever hold one lease (an owner that slept past its file's warmth), they do the same work twice:
what they write is the same, and each file is written whole.

A lease is judged by what it says and by the file server's clock alone. One that says nothing (its
owner was killed as it took it) is cold like another's; one with a time to come, of a clock that
ran ahead, is given the present one: an owner that lives touches it again.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lth_runner.values.errors import UserError
from lth_runner.values.files import not_a_file
from lth_runner.values.json_files import read_object
from lth_runner.values.pieces import create, piece
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
        """Takes the lease on ``path``; None while another process is alive that has it.

        Raises UserError where something that is no file stands in its place.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        token = secrets.token_hex(8)
        owner = {"place": place(), "pid": os.getpid(), "began": began(os.getpid())}
        for _ in range(2):
            try:  # the file system lets one process alone create it
                opened = create(path)
            except FileExistsError:
                if not _set_cold_aside(path, cold_seconds):
                    return None
                continue
            try:
                with opened:
                    opened.write(json.dumps({**owner, "token": token}).encode())
            except OSError:  # a full disk: an empty lease would keep everybody waiting
                path.unlink(missing_ok=True)
                raise
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
                os.utime(self.path, follow_symlinks=False)
            except FileNotFoundError:  # taken over: the training itself will tell
                return
            except OSError:  # the disk is away for a while
                continue


def is_elsewhere(path: Path) -> bool:
    """Whether a lease's owner cannot be looked at from here, so that its file alone can tell."""
    return path.exists() and _read(path).get("place") != place()


def _set_cold_aside(path: Path, cold_seconds: float) -> bool:
    """Removes the lease of an owner that is gone; False where one is alive, or was quicker."""
    _check_is_file(path)
    judged = _read(path)
    if not _is_cold(path, judged, cold_seconds):
        return False
    aside = piece(path)
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


def _check_is_file(path: Path) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    found = "a link" if stat.S_ISLNK(mode) else not_a_file(mode)
    if found is not None:
        raise UserError(
            f"{path} is {found}: a lease, a small file, belongs in its place. Nothing here makes "
            "such a one: remove it, then give the same command again"
        )


def _is_cold(path: Path, owner: dict[str, object], cold_seconds: float) -> bool:
    pid = owner.get("pid")
    if owner.get("place") == place() and isinstance(pid, int):
        return not (is_alive(pid) and began(pid) == owner.get("began"))
    try:
        age = _now_on_disk(path) - path.lstat().st_mtime
        if age < 0:
            with suppress(PermissionError):  # another user's: its time will come by itself
                os.utime(path, follow_symlinks=False)
        return age > cold_seconds
    except FileNotFoundError:
        return True


def _read(path: Path) -> dict[str, object]:
    return read_object(path) or {}


def _now_on_disk(path: Path) -> float:
    """Reads the file server's clock, since nodes' own clocks differ."""
    probe = piece(path)
    try:
        with create(probe) as opened:
            return os.fstat(opened.fileno()).st_mtime
    finally:
        probe.unlink(missing_ok=True)
