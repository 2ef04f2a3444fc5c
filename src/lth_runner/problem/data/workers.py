"""Batches made by worker processes ahead of time, the same to the bit as made without any."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from pickle import PicklingError
from typing import Any, Protocol

import torch
from torch import Tensor

from lth_runner.problem.data.samples import Samples
from lth_runner.values.errors import UserError
from lth_runner.values.raised import reason_of
from lth_runner.values.seeds import stream as generator
from lth_runner.values.tree import Batch

MOST = 16  # workers, where nobody says how many
AHEAD = 2  # batches that wait for each worker's turn
LOOK = 2.0  # seconds after which workers are looked at, whether they live
PATIENCE = 300.0  # seconds for one batch, after which a worker that lives counts as stuck
TRIES = 3  # at one batch, each by new workers
SHARED = Path("/dev/shm")  # what batches go through from one process to another
METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
LOADED = ["lth_runner.problem.data.workers", "torchvision.transforms.v2"]  # once, for all workers
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """One batch: of which split, the numbers of its samples, and what its draws are seeded by."""

    split: str
    index: Tensor
    draw: tuple[str | int, ...]  # a seed, and names

    def made(self, splits: Mapping[str, Samples]) -> Batch:
        """Makes the batch, here and now."""
        seed, *names = self.draw
        return splits[self.split].take(self.index, generator(int(seed), *names))

    def __reduce__(self) -> tuple[Any, ...]:
        """Is sent as plain numbers: a tensor would share its whole memory, a view's too."""
        return _request, (self.split, self.index.numpy().copy(), self.draw)


def _request(split: str, index: Any, draw: tuple[str | int, ...]) -> Request:
    return Request(split, torch.from_numpy(index), draw)


class Requests(Protocol):
    """Batches one after the other, by their places."""

    def __getitem__(self, place: int) -> Request:
        """Says which batch it is; raises IndexError behind the last one."""


def num_workers(given: int | None) -> int:
    """Returns how many worker processes there are to be: by default one core fewer than there are.

    A process of a pool may start none: 0 there. Raises UserError for what is no
    number of them, and for one above 0 in such a process.
    """
    alone = multiprocessing.current_process().daemon
    if given is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return 0 if alone else min(MOST, max(0, (cores or 1) - 1))
    if isinstance(given, bool) or not isinstance(given, int) or given < 0:
        raise UserError(
            f"dataset.workers={given!r}: give a whole number, 0 for no worker process, or null for "
            "one core fewer than there are"
        )
    if given and alone:
        raise UserError(
            f"dataset.workers={given}: this process is itself a worker of a pool, which may start "
            "no others: set dataset.workers=0"
        )
    return given


class Ahead:
    """Has batches made by ``num`` workers of PyTorch's DataLoader, each as it is asked for.

    A batch is a function of its ``Request`` alone, so that neither the number of workers nor
    which of them makes it changes a bit, and one that was lost is made again. Workers are forked
    off a server process that has been started anew: a fork of this process would copy threads of
    torch and W&B in the midst of whatever they hold, and starting each anew would load torch as
    often. They live on from one use to the next, and end with this process however it ends.
    """

    def __init__(self, splits: Mapping[str, Samples], num: int, *, pinned: bool = False) -> None:
        self._splits, self._num, self._pinned = splits, num, pinned
        self._places = _Places()
        self._loader: Any = None
        self._iterator: Iterator[Any] | None = None
        self._requests: Requests | None = None
        self._next = 0

    def take(self, requests: Requests, place: int) -> Batch:
        """Returns the batch at a place; those at the next places are being made meanwhile.

        Raises what making it raises, and UserError where workers are killed again and again.
        """
        for tried in range(1, TRIES + 1):
            found, reason = self._taken(requests, place)
            if reason is None:
                break
            self._end()
            again = "it is made again by new ones" if tried < TRIES else "for the last time"
            _log.warning("data     workers that make batch %d were lost (%s): %s", place, reason,
                         again)  # fmt: skip
        else:
            raise UserError(
                f"dataset.workers={self._num}: batch {place} was asked of {TRIES} sets of workers, "
                f"and none made it ({reason}). Where the system killed them, memory is short"
                f"{_free_shared()}: give fewer workers, a smaller train.batch_size, or "
                f"dataset.workers=0{_of_a_script()}; the same command goes on where this one ended"
            )
        self._next = place + 1
        if isinstance(found, _Raised):
            raise found.error
        batch: Batch = found
        return batch

    def _taken(self, requests: Requests, place: int) -> tuple[Any, str | None]:
        """Returns what a worker made, or why it did not come."""
        try:
            if self._requests is not requests or self._next != place:
                self._turn_to(requests, place)
            assert self._iterator is not None
            return _waited_for(self._iterator), None
        except UserError:
            raise
        # of workers that die while they send: a pipe or a socket that breaks, or what comes cut
        except (RuntimeError, OSError, EOFError, ValueError, StopIteration) as error:
            return None, reason_of(error)

    def _turn_to(self, requests: Requests, place: int) -> None:
        """Has workers make other batches, once those are done that they are at."""
        self._places.stopped = True
        if self._iterator is not None:
            while True:
                try:
                    _waited_for(self._iterator)
                except StopIteration:
                    break
        self._places.requests, self._places.first, self._places.stopped = requests, place, False
        if self._loader is None:
            self._loader = self._started()
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Got pickle error")  # it is told below
                self._iterator = iter(self._loader)
        except (PicklingError, AttributeError, TypeError) as error:
            raise UserError(
                f"dataset.workers={self._num}: the data cannot be sent to worker processes "
                f"({error}): keep plain values and paths, and open files where a sample is "
                "fetched; or set dataset.workers=0"
            ) from error
        self._requests, self._next = requests, place

    def _started(self) -> Any:
        from torch.utils.data import DataLoader

        context = multiprocessing.get_context(METHOD)
        if METHOD == "forkserver":
            context.set_forkserver_preload(LOADED)
        return DataLoader(
            _Made(self._splits),  # type: ignore[arg-type]  # it has what is asked of one
            sampler=self._places,
            batch_size=None,
            num_workers=self._num,
            collate_fn=_as_it_is,
            pin_memory=self._pinned,
            timeout=LOOK,
            worker_init_fn=_begin,
            multiprocessing_context=context,
            generator=torch.Generator(),  # else a draw of the global stream, which is not its own
            prefetch_factor=AHEAD,
            persistent_workers=True,
        )

    def _end(self) -> None:
        """Lets the workers go, which ends those that still live."""
        self._iterator = self._loader = self._requests = None
        self._places = _Places()


def _waited_for(iterator: Iterator[Any]) -> Any:
    """Waits for what workers make, as long as they live and are not stuck."""
    began = time.monotonic()
    while True:
        try:
            return next(iterator)
        except RuntimeError as error:
            late = "timed out after" in str(error)  # it has no class of its own
            if not late:
                raise
        if time.monotonic() - began > PATIENCE:
            raise RuntimeError(f"no batch came for {PATIENCE:.0f} seconds")


class _Places:
    """The places that workers are sent to; a loader goes through it anew at each turn."""

    requests: Requests | None = None
    first = 0
    stopped = False

    def __iter__(self) -> Iterator[Request]:
        place = self.first
        while not self.stopped and self.requests is not None:
            try:
                yield self.requests[place]
            except IndexError:
                return
            place += 1


@dataclass(frozen=True)
class _Made:
    """Makes batches in a worker."""

    splits: Mapping[str, Samples]

    def __getitem__(self, request: Request) -> Batch | _Raised:
        try:
            return request.made(self.splits)
        except Exception as error:  # told in the other process, as it would have been there
            return _Raised.of(error)


@dataclass(frozen=True)
class _Raised:
    """What making a batch raised."""

    error: Exception

    @classmethod
    def of(cls, error: Exception) -> _Raised:
        """Keeps an error as it is where it can be sent, else its text."""
        from multiprocessing.reduction import ForkingPickler

        try:
            ForkingPickler.loads(ForkingPickler.dumps(error))
        except Exception:  # whatever a stranger's error raises when it is packed
            return cls(RuntimeError(f"{type(error).__name__}: {error}"))
        return cls(error)


def _as_it_is(batch: Any) -> Any:
    return batch


def _begin(number: int) -> None:
    """Prepares a worker: it is not interrupted by a key, and ends when its parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None
    end = threading.Thread(target=_end_with, args=(parent.sentinel, os._exit), daemon=True)
    end.start()


def _end_with(sentinel: int, end: Callable[[int], Any]) -> None:
    """Waits for the end of the process that wants the batches: killed, it tells nobody."""
    connection.wait([sentinel])
    end(0)


def _of_a_script() -> str:
    """Says what workers of a script need, which they import: it would call itself in each."""
    main = sys.modules.get("__main__")
    is_script = str(getattr(main, "__file__", "")).endswith(".py")
    if not is_script or getattr(main, "__spec__", None) is not None:  # python -m, or lth-run
        return ""
    return "; in a Python script, make the call under if __name__ == '__main__'"


def _free_shared() -> str:
    try:
        free = shutil.disk_usage(SHARED).free
    except OSError:
        return ""
    return f", or shared memory ({SHARED} has {free / 1e9:.1f} GB free; docker run --shm-size)"
