"""Signs of life between two ranks: one that is stopped ends no connection, but says nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection

BEAT = b"beat"
EVERY = 10.0  # seconds between two of them
MISSED = 18  # so many in a row: a rank stands still


class Line:
    """A connection that two threads may send on."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._sending = connection, threading.Lock()

    def send(self, written: bytes) -> None:
        """Sends a message; raises OSError where the other end is gone."""
        with self._sending:
            self._connection.send_bytes(written)

    def beat(self) -> None:
        """Sends a sign of life, unless a message is on its way, which is one."""
        if self._sending.acquire(blocking=False):
            try:
                with suppress(OSError):  # whoever listens learns of it
                    self._connection.send_bytes(BEAT)
            finally:
                self._sending.release()


class Pulse:
    """Sends signs of life on lines, and calls ``tell`` with the number of one that has none.

    What is missed is counted by turns of this process's own: one that was stopped with all others,
    as a terminal or a scheduler stops them, has had no turns meanwhile and blames nobody.
    """

    def __init__(self, lines: Sequence[Line], tell: Callable[[int], None]) -> None:
        self._lines, self._tell = lines, tell
        self._missed = [0] * len(lines)
        self._ended = threading.Event()
        threading.Thread(target=self._go, daemon=True).start()

    def hear(self, index: int) -> None:
        """Notes that something has come on a line."""
        self._missed[index] = 0

    def end(self) -> None:
        """Sends and counts no more."""
        self._ended.set()

    def _go(self) -> None:
        while not self._ended.wait(EVERY):
            for index, line in enumerate(self._lines):
                line.beat()
                self._missed[index] += 1
                if self._missed[index] == MISSED:
                    self._tell(index)
