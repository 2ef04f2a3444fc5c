"""The sink that writes the run folder, small files that other programs may rely on."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lth_runner.runs.folder import (
    ENVIRONMENT,
    METRICS,
    PROBLEM,
    ROUNDS,
    STATUS,
    TICKETS,
    append_rows,
    read_metrics,
    read_rounds,
    read_status,
    replace_rows,
    write_config,
    write_facts,
)
from lth_runner.runs.record.record import Place, Progress, Row, RunDescription
from lth_runner.store.ticket_file import Subnetwork, save_ticket
from lth_runner.values.steps import Step

STATUS_SECONDS = 2.0
SYNC_SECONDS = 2.0  # a disk takes some milliseconds to answer: as long as a small training's probes
DRAW_SECONDS = 60.0  # between two pictures on the way, at least
DRAW_SHARE = 0.01  # of a run's time that they may take, at most: they grow with its rows
log = logging.getLogger(__name__)


class RunFolder:
    """Writes a run's config, environment, problem, status, rows and tickets into its folder.

    ``rounds.jsonl`` is the truth: a line is appended for every training, its metrics before it, so
    that what a killed run leaves behind is cut back to whole rows. The disk is waited for every few
    seconds and at the end: rows that a power cut takes are written again from the Store.
    ``draw`` is called with the folder at the end, and now and then when a round is complete.
    """

    def __init__(self, draw: Callable[[Path], object]) -> None:
        self._draw = draw
        self._status: dict[str, Any] = {}
        self._steps = dict.fromkeys(("asked", "run", "reused", "replayed"), 0)
        self._last_status = self._last_sync = 0.0
        self._round = -1
        self._next_picture = time.monotonic() + DRAW_SECONDS

    def done(self, run: RunDescription) -> set[Place]:
        """Finds the places that an earlier attempt recorded with the same probes."""
        if read_status(run.folder).get("probes") != run.probes:
            return set()
        last = {_place(row): row["step"] for row in read_metrics(run.folder)}
        rows = read_rounds(run.folder)
        return {_place(row) for row in rows if _is_measured(row, last.get(_place(row)))}

    def open(self, run: RunDescription) -> None:
        self._folder = run.folder
        (run.folder / TICKETS).mkdir(parents=True, exist_ok=True)
        done = self.done(run)
        self._steps["replayed"] = read_status(run.folder).get("steps", {}).get("replayed", 0)
        self._status = {
            "state": "running",
            "round": 0,
            "rounds": run.num_rounds,
            "started": _now(),
            "updated": _now(),
            "error": None,
            "name": run.name,
            "command": run.command,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "steps": self._steps,
            "probes": None,  # until no row of other probes is left: a kill may come in between
        }
        self._write_status()
        rounds = [row for row in read_rounds(run.folder) if _place(row) in done]
        metrics = [row for row in read_metrics(run.folder) if _place(row) in done]
        replace_rows(run.folder / ROUNDS, rounds)
        replace_rows(run.folder / METRICS, metrics)
        for row in rounds:
            self._count(row)
        write_config(run.folder, run.config)
        write_facts(run.folder / ENVIRONMENT, run.environment)
        write_facts(run.folder / PROBLEM, run.problem)
        self._model = {
            "model": run.config.get("model"),
            "dataset": run.config.get("dataset"),
        }
        self._base_seed = run.config.get("seed")
        self._status["probes"] = run.probes
        self._write_status()

    def progress(self, progress: Progress) -> None:
        if time.monotonic() - self._last_status > STATUS_SECONDS:
            self._status |= {
                "round": progress.round,
                "arm": progress.arm,
                "seed": progress.seed,
                "step": progress.step,
                "total": progress.total,
            }
            self._write_status(synced=False)

    def metrics(self, rows: Sequence[Row]) -> None:
        append_rows(self._folder / METRICS, rows)

    def round(self, row: Row, ticket: Subnetwork) -> None:
        if row["arm"] == "ticket":
            self._save_ticket(row, ticket)
        new_round, self._round = row["round"] > self._round >= 0, row["round"]
        if new_round and (began := time.monotonic()) > self._next_picture:
            self._try_to_draw()  # the round before is complete
            ended = time.monotonic()
            self._next_picture = ended + max(DRAW_SECONDS, (ended - began) / DRAW_SHARE)
        append_rows(self._folder / ROUNDS, [row])
        self._count(row)
        if time.monotonic() - self._last_sync > SYNC_SECONDS:
            self._sync()
        self._status["round"] = row["round"]
        self._write_status(synced=False)

    def close(self, state: str, error: str | None) -> None:
        self._end(state, error)  # before the picture, which says it
        if state == "done":
            try:
                self._draw(self._folder)
            except BaseException as failure:  # not done: the same command draws again
                stopped = isinstance(failure, KeyboardInterrupt)
                self._end(
                    "interrupted" if stopped else "failed", f"{type(failure).__name__}: {failure}"
                )
                raise
        elif read_rounds(self._folder):
            self._try_to_draw()

    def replayed(self, steps: Step) -> None:
        """Counts steps that were run again, for a snapshot nobody had kept or for a probe."""
        self._steps["replayed"] += steps

    def _count(self, row: Row) -> None:
        """Counts training steps asked for, and whether they were run for this run or reused."""
        self._steps["asked"] += row["steps"]
        self._steps["reused" if row["reused"] else "run"] += row["steps"]

    def _sync(self) -> None:
        """Waits until the rows are on the disk."""
        for name in (METRICS, ROUNDS):
            with suppress(FileNotFoundError), (self._folder / name).open("ab") as opened:
                os.fsync(opened.fileno())
        self._last_sync = time.monotonic()

    def _end(self, state: str, error: str | None) -> None:
        self._sync()
        for name in ("arm", "seed", "step", "total"):
            self._status.pop(name, None)
        self._status |= {"state": state, "error": error}
        self._write_status()

    def _try_to_draw(self) -> None:
        """Draws a picture on the way, whose failure ends no training."""
        try:
            self._draw(self._folder)
        except Exception as error:
            log.warning("the picture of %s could not be drawn: %s", self._folder, error)

    def _save_ticket(self, row: Row, ticket: Subnetwork) -> None:
        suffix = "" if row["seed"] == self._base_seed else f"-seed-{row['seed']}"
        path = self._folder / TICKETS / f"round-{row['round']:02d}{suffix}.safetensors"
        facts = {name: row[name] for name in ("seed", "round", "steps")}
        save_ticket(path, ticket, {**facts, **self._model})

    def _write_status(self, *, synced: bool = True) -> None:
        self._last_status = time.monotonic()
        self._status["updated"] = _now()
        write_facts(self._folder / STATUS, self._status, synced=synced)


def _is_measured(row: Row, last_step: Step | None) -> bool:
    """Whether a row's evaluations are there too: of two files the disk may have kept either."""
    end = row["start_step"] + row["steps"]
    return not row["steps"] or last_step == end or (row["diverged"] and last_step is not None)


def _place(row: Row) -> Place:
    return row["round"], row["arm"], row["seed"]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
