"""The lines between rank 0 and the others: orders, answers, and word of whoever is gone.

Each other rank holds one TCP connection to rank 0, beside those that sums go through. A process
that ends closes it, however it ends, and the system tells the other end at once, or within half a
minute where a machine has failed; one that is stopped is told by its silence. So nobody waits for
the dead, whatever a sum does meanwhile.
"""

from __future__ import annotations

import os
import queue
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from lth_runner.training.engines.distributed.collectives import Severed
from lth_runner.training.engines.distributed.pulse import BEAT, EVERY, MISSED, Line, Pulse
from lth_runner.training.engines.distributed.sending import packed, unpacked
from lth_runner.training.engines.distributed.telling import End, Failure, Who
from lth_runner.values.errors import RankLost
from lth_runner.values.ranks import Rank
from lth_runner.values.terminal import show

GRACE = 15.0  # seconds in which a process ends by itself once another is gone
HURRY = 1.0  # seconds in which it does where rank 0 has ended by an error
CAUSE = 3.0  # seconds in which word comes of why a sum has failed
CPU = torch.device("cpu")
STILL = (
    f"stands still: nothing has come from it for {EVERY * MISSED:.0f} s (it is stopped, or its "
    "machine does not answer)"
)
AGAIN = " The same command goes on from the last checkpoint"


class Leader:
    """Rank 0's lines to all others; ``known`` are objects that they have too.

    ``store``: where ranks find each other.
    """

    def __init__(
        self, rank: Rank, me: Who, lines: Mapping[Connection, Who], store: Any = None
    ) -> None:
        self.rank, self.me, self.others, self.store = rank, me, tuple(lines.values()), store
        self.known: tuple[object, ...] = ()
        self.gradients: Any = None  # connections that their sums go through
        self._lines = dict(zip(lines, range(len(lines)), strict=True))
        self._answers: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in lines]
        self._failures: dict[int, Failure | None] = {}  # None: gone without a word
        self._news, self._ended, self._begun = threading.Condition(), threading.Event(), 0
        self._forgotten: list[int] = []
        self._sending = [Line(line) for line in lines]
        self._pulse = Pulse(self._sending, lambda index: self._note(index, Failure(STILL)))
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def next_number(self) -> int:
        """Numbers the trainings of this process."""
        self._begun += 1
        return self._begun

    def forget(self, number: int) -> None:
        """Notes that a training is done with, which the others are told by and by."""
        self._forgotten.append(number)

    def forgotten(self) -> list[int]:
        """Gives what has been noted since it was asked for last."""
        noted, self._forgotten = self._forgotten, []
        return noted

    def tell(self, order: object) -> None:
        """Sends an order to all; raises RankLost where one of them is gone."""
        if not self._lines:
            return
        written = packed(order, self.known)
        self.check()
        for index, line in enumerate(self._sending):
            try:
                line.send(written)
            except OSError as error:
                self._note(index, None)
                raise self._lost() from error

    def answers(self) -> list[Any]:
        """Waits for the answers to an order, by rank; raises RankLost where one is gone."""
        return [self._answer(mailbox) for mailbox in self._answers]

    def _answer(self, mailbox: queue.SimpleQueue[Any]) -> Any:
        while True:
            try:
                return mailbox.get(timeout=0.2)
            except queue.Empty:
                self.check()

    @property
    def is_broken(self) -> bool:
        """Whether a rank is gone."""
        return bool(self._failures)

    def check(self) -> None:
        """Raises RankLost where a rank is gone."""
        if self.is_broken:
            raise self._lost()

    def cause(self, error: Exception) -> Exception:
        """Returns why this rank's own step has failed: because of another's end, where one has."""
        with self._news:
            self._news.wait_for(lambda: self._is_told, timeout=CAUSE)
        return self._lost() if self._failures or isinstance(error, Severed) else error

    @property
    def _is_told(self) -> bool:
        return any(one is None or not one.is_severed for one in self._failures.values())

    def end(self, status: int) -> None:
        """Lets the others end, and hangs up."""
        self._ended.set()
        self._pulse.end()
        written = packed(End(status), ())
        for line in self._sending:
            with suppress(OSError):
                line.send(written)
        self._listener.join(GRACE if not status else HURRY)  # the others hang up as they end

    def _listen(self) -> None:
        waiting = dict(self._lines)
        while waiting:
            for line in wait(list(waiting)):
                assert isinstance(line, Connection)
                index = waiting[line]
                try:
                    written = line.recv_bytes()
                except (EOFError, OSError):
                    del waiting[line]
                    self._note(index, None)
                    continue
                self._pulse.hear(index)
                if written == BEAT:
                    continue
                told = unpacked(written, (), CPU)
                if isinstance(told, Failure):
                    self._note(index, told)
                else:
                    self._answers[index].put(told)

    def _note(self, index: int, failure: Failure | None) -> None:
        if self._ended.is_set():
            return
        with self._news:
            is_first = not self._failures
            self._failures.setdefault(index, failure)
            self._news.notify_all()
        if is_first:
            threading.Thread(target=self._end_hard, daemon=True).start()

    def _end_hard(self) -> None:
        """Ends a process that a sum over the ranks, or a long look, holds after all."""
        if not self._ended.wait(GRACE):
            show(f"error: {self._lost()}", sys.stderr)
            os._exit(1)

    def _lost(self) -> RankLost:
        found = sorted(self._failures.items())
        gone = [self.others[index] for index, one in found if one is None]
        if gone:
            told = "is gone: it was" if len(gone) == 1 else "are gone: they were"
            which = " and ".join(map(str, gone))
            return RankLost(f"{which} {told} killed, or a machine failed.{AGAIN}")
        own = [(index, one) for index, one in found if one is not None and not one.is_severed]
        if own:
            index, failure = own[0]
            colon = "" if failure.text == STILL else ":"
            return RankLost(f"{self.others[index]}{colon} {failure.text}.{AGAIN}")
        told = next((one.text for _, one in found if one is not None), "no word")
        return RankLost(f"the connection between the ranks broke: {told}.{AGAIN}")


class Follower:
    """Another rank's line to rank 0, which is ``first``."""

    def __init__(self, rank: Rank, first: Who, line: Connection, store: Any) -> None:
        self.rank, self.first, self.store = rank, first, store
        self.known: tuple[object, ...] = ()
        self.gradients: Any = None  # connections that their sums go through
        self.device = CPU
        self._line, self._sending = line, Line(line)
        self._orders: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._heard, self._ended = threading.Event(), threading.Event()
        self._is_abandoned, self._is_silent = False, False
        self._pulse = Pulse([self._sending], lambda _: self._abandon())
        threading.Thread(target=self._listen, daemon=True).start()

    def order(self) -> Any:
        """Waits for the next order; raises RankLost where rank 0 is gone."""
        written = self._orders.get()
        if written is None:
            raise self._lost()
        return unpacked(written, self.known, self.device)

    def answer(self, value: object) -> None:
        """Answers an order."""
        self._sending.send(packed(value, ()))

    def fail(self, error: BaseException) -> RankLost | None:
        """Tells rank 0 why this one ends; returns that rank 0 is gone, where it is.

        The others, whose sums wait for this rank, wait no longer than one of them takes to see.
        """
        with suppress(OSError):
            self._sending.send(packed(Failure.of(error), ()))
        if isinstance(error, Severed) and self.rank.number == 1:
            self._heard.wait(CAUSE)
        return self._lost() if self._is_abandoned else None

    def close(self) -> None:
        """Says that the process ends by itself."""
        self._ended.set()
        self._pulse.end()

    def _listen(self) -> None:
        end: End | None = None
        while end is None:
            try:
                written = self._line.recv_bytes()
            except (EOFError, OSError):
                self._is_abandoned = True
                self._orders.put(None)
                break
            self._pulse.hear(0)
            if written == BEAT:
                continue
            end = unpacked_end(written)
            self._orders.put(written)
        self._heard.set()
        self._end_hard(end)

    def _end_hard(self, end: End | None) -> None:
        """Ends a process that a sum over the ranks holds after all."""
        if not self._ended.wait(HURRY if end is not None and end.status else GRACE):
            if end is None and self.rank.number == 1:
                show(f"error: {self._lost()}", sys.stderr)
            os._exit(1 if end is None else end.status)

    def _abandon(self) -> None:
        """Ends this process, of which rank 0 takes no notice any more."""
        self._is_abandoned = self._is_silent = True
        self._orders.put(None)
        self._end_hard(None)

    def _lost(self) -> RankLost:
        if self._is_silent:
            return RankLost(f"{self.first} {STILL}.{AGAIN}")
        return RankLost(f"{self.first} is gone: it was killed, or a machine failed.{AGAIN}")


@contextmanager
def told(leader: Leader) -> Iterator[None]:
    """Raises RankLost where it fails because another rank is gone."""
    try:
        yield
    except Exception as error:
        cause = leader.cause(error)
        if cause is error:
            raise
        raise cause from error


def unpacked_end(written: bytes) -> End | None:
    """Reads an order where it is the last one, which is short and knows nothing."""
    if len(written) > 200:
        return None
    try:
        found = unpacked(written, (), CPU)
    except IndexError:  # of what both ends know
        return None
    return found if isinstance(found, End) else None


def others_that(differ: Sequence[bool], others: Sequence[Who]) -> str:
    """Lists the ranks of which something is true."""
    return ", ".join(str(who) for who, wrong in zip(others, differ, strict=True) if wrong)
