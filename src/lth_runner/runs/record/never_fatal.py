"""A sink around another, which goes on without it where it fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress

from lth_runner.runs.record.record import Progress, Row, RunDescription, Sink
from lth_runner.store.ticket_file import Subnetwork

log = logging.getLogger(__name__)


class NeverFatal:
    """Hands everything on to a tracker, until it fails: then it warns once and is silent.

    The local files are the truth, and a tracker is a view of them: its failure ends no training.
    """

    def __init__(self, sink: Sink, called: str) -> None:
        self._sink, self._called = sink, called
        self._broken = False

    def open(self, run: RunDescription) -> None:
        self._try(lambda: self._sink.open(run))

    def progress(self, progress: Progress) -> None:
        self._try(lambda: self._sink.progress(progress))

    def metrics(self, rows: Sequence[Row]) -> None:
        self._try(lambda: self._sink.metrics(rows))

    def samples(self, row: Row) -> None:
        self._try(lambda: self._sink.samples(row))

    def round(self, row: Row, ticket: Subnetwork) -> None:
        self._try(lambda: self._sink.round(row, ticket))

    def close(self, state: str, error: str | None) -> None:
        self._try(lambda: self._sink.close(state, error), closes=True)

    def _try(self, hand_on: Callable[[], None], *, closes: bool = False) -> None:
        if self._broken:
            return
        try:
            hand_on()
        except Exception as error:
            self._broken = True
            told = " ".join(str(error).split()) or type(error).__name__
            log.warning("%s stopped: %s; the run goes on, its files are complete",
                        self._called, told)  # fmt: skip
            if not closes:
                with suppress(Exception):  # it has failed already, and has been told
                    self._sink.close("failed", told)
