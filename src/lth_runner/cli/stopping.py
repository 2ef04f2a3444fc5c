"""Ways in which a run is asked to stop: a signal, or nobody reading what it prints."""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from lth_runner.values.terminal import show


@contextmanager
def interruption_told() -> Iterator[None]:
    """Makes KeyboardInterrupt of an error that came of one.

    Where Ctrl-C meets the import of a compiled module, another exception may come out.
    """
    before, pressed = signal.getsignal(signal.SIGINT), []

    def interrupt(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        if callable(before):
            before(number, frame)

    if callable(before):
        with suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except Exception as error:
        if pressed:
            raise KeyboardInterrupt from error
        raise
    finally:
        if signal.getsignal(signal.SIGINT) == interrupt:
            signal.signal(signal.SIGINT, before)


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Makes SIGTERM an interruption, as Ctrl-C is, so that what was begun is removed."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def interrupted_once(is_ending: Callable[[], bool]) -> Iterator[None]:
    """Makes SIGTERM, as Ctrl-C, an interruption, but for a process that is ending anyway.

    Where one rank has died torchrun ends all others, who are just telling of it. Behind whatever
    was raised signals are ignored, up to the process's end.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not is_ending():
            raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise
    for number, handler in before.items():
        signal.signal(number, handler)


@contextmanager
def stop_requested(*, patient: bool = False) -> Iterator[Callable[[], bool]]:
    """Turns Ctrl-C, SIGTERM or SIGHUP into a request that trainings grant between two steps.

    An exception in the middle of a step would leave weights that no uninterrupted run has. A
    second Ctrl-C stops at once; the last checkpoint stands. SIGHUP (the terminal was closed, a
    connection lost) may come from the shell and from the system: twice is once. So is any signal
    where ``patient``: under torchrun it comes from whoever sends it and from torchrun too, which
    ends the process itself where it takes long.
    """
    requests: list[int] = []

    def request(number: int, frame: object) -> None:
        if requests and number != signal.SIGHUP and not patient:
            raise KeyboardInterrupt
        requests.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which nohup sets
        numbers.append(signal.SIGHUP)
    try:
        before = {number: signal.signal(number, request) for number in numbers}
        if callable(signal.getsignal(signal.SIGUSR2)):  # a launcher's, to queue its job again
            before[signal.SIGUSR2] = signal.signal(signal.SIGUSR2, request)
    except ValueError:  # not the main thread: whoever runs us there handles signals
        before = {}
    try:
        yield lambda: bool(requests)
    finally:
        for number, handler in before.items():
            if patient and requests:
                signal.signal(number, signal.SIG_IGN)
            elif handler is not None:  # not Python's: nothing that it could put back
                signal.signal(number, handler)
        if signal.SIGUSR2 in requests:
            signal.raise_signal(signal.SIGUSR2)  # now that the checkpoint is written


def nobody_reads(failure: BaseException) -> bool:
    """Whether a failure is that whoever read stdout (`head`, a terminal) has gone."""
    if not isinstance(failure, OSError) or failure.errno not in (errno.EPIPE, errno.EIO):
        return False
    try:
        watched = sys.stdout.fileno()
    except (OSError, ValueError, AttributeError):  # closed, or not a file: someone else's
        return False
    poll = select.poll()
    poll.register(watched, 0)  # the other end's leaving is told unasked
    return bool(poll.poll(0))


def say(text: str) -> None:
    """Prints where somebody still reads: on stdout, else on stderr."""
    try:
        show(text)
    except OSError:
        hush()
        with suppress(OSError):
            show(text, sys.stderr)


def hush() -> None:
    """Leads stdout, which nobody reads, to nowhere, since the process's end writes to it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
