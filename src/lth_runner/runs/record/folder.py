"""The sink that writes the run folder, small files that other programs may rely on."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lth_runner.runs.folder import (
    CONFIG,
    ENDED,
    ENGINE,
    ENVIRONMENT,
    METRICS,
    PROBLEM,
    ROUNDS,
    SAMPLES,
    STATUS,
    TICKETS,
    read_engine,
    read_metrics,
    read_rounds,
    read_status,
    write_config,
    write_facts,
    write_status,
)
from lth_runner.runs.one_run import ticket_name
from lth_runner.runs.record.record import Place, Progress, Row, RunDescription
from lth_runner.runs.seal import FILES, GrowingRows, Seal, damaged, seals, vouched_rows
from lth_runner.store.ticket_file import Subnetwork, save_ticket
from lth_runner.values.pieces import clear_pieces
from lth_runner.values.steps import Step

STATUS_SECONDS = 2.0
SYNC_SECONDS = 2.0  # a disk takes some milliseconds to answer: as long as a small training's probes
DRAW_SECONDS = 60.0  # between two pictures on the way, at least
DRAW_SHARE = 0.01  # of a run's time that they may take, at most: they grow with its rows
log = logging.getLogger(__name__)


class RunFolder:
    """Writes a run's config, environment, problem, status, rows and tickets into its folder.

    ``rounds.jsonl`` is the truth: a line is appended for every training, its metrics before it. The
    disk is waited for every few seconds and at the end, and then ``status.json`` vouches for what
    is there: the next attempt keeps these rows and no others, and makes all again from the Store
    where a file is not what was written.
    ``draw`` is called with the folder at the end, and now and then when a round is complete.
    """

    def __init__(self, draw: Callable[[Path], object]) -> None:
        self._draw = draw
        self._status: dict[str, Any] = {}
        self._files: dict[str, Any] = {}  # what the status vouches for
        self._rows: dict[str, GrowingRows] = {}
        self._kept: tuple[Rows, Rows, Rows] | None = None
        self._steps = dict.fromkeys(("asked", "run", "reused", "replayed"), 0)
        self._last_status = self._last_sync = 0.0
        self._round = -1
        self._next_picture = time.monotonic() + DRAW_SECONDS

    def done(self, run: RunDescription) -> set[Place]:
        """Finds the places that an earlier attempt recorded with the same probes.

        Where a file of the run is not what was written, none is: all are made again.
        """
        if self._kept is None:
            self._kept = _kept(run)
        rounds, metrics, samples = self._kept
        last = {_place(row): row["step"] for row in metrics}
        sampled, asked = {_place(row) for row in samples}, f"test_{run.headline.name}"
        return {
            place for row in rounds
            if _is_measured(row, last.get(place := _place(row)))
            and (asked not in row or place in sampled)
        }  # fmt: skip

    def open(self, run: RunDescription) -> None:
        self._folder = run.folder
        (run.folder / TICKETS).mkdir(parents=True, exist_ok=True)
        done, before = self.done(run), read_status(run.folder)
        for folder in (run.folder, run.folder / TICKETS):
            clear_pieces(folder)
        self._steps["replayed"] = _replayed(before)
        self._files = {}
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
            "engine": read_engine(run.folder),
            FILES: self._files,
        }
        self._write_status()
        assert self._kept is not None
        rounds, metrics, samples = ([r for r in rows if _place(r) in done] for rows in self._kept)
        self._rows = {
            METRICS: GrowingRows(run.folder / METRICS, metrics),
            SAMPLES: GrowingRows(run.folder / SAMPLES, samples),
            ROUNDS: GrowingRows(run.folder / ROUNDS, rounds),
        }
        for row in rounds:
            self._count(row)
            self._status["round"] = row["round"]
        write_config(run.folder, run.config)
        write_facts(run.folder / ENVIRONMENT, run.environment)
        write_facts(run.folder / PROBLEM, run.problem)
        self._model = {
            "model": run.config.get("model"),
            "dataset": run.config.get("dataset"),
        }
        self._base_seed = run.config.get("seed")
        if done:
            tickets = seals(before) or {}
            self._files |= {n: s.facts for n, s in tickets.items() if n.startswith(f"{TICKETS}/")}
        self._vouch(CONFIG, ENVIRONMENT, PROBLEM, ENGINE)
        self._sync()
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
        self._rows[METRICS].append(rows)

    def samples(self, row: Row) -> None:
        self._rows[SAMPLES].append([row])

    def round(self, row: Row, ticket: Subnetwork) -> None:
        if row["arm"] == "ticket":
            self._save_ticket(row, ticket)
        new_round, self._round = row["round"] > self._round >= 0, row["round"]
        if new_round and (began := time.monotonic()) > self._next_picture:
            self._try_to_draw()  # the round before is complete
            ended = time.monotonic()
            self._next_picture = ended + max(DRAW_SECONDS, (ended - began) / DRAW_SHARE)
        self._rows[ROUNDS].append([row])
        self._count(row)
        if time.monotonic() - self._last_sync > SYNC_SECONDS:
            self._sync()
        self._status["round"] = row["round"]
        self._write_status(synced=False)

    def close(self, state: str, error: str | None) -> None:
        self._end(state, error)  # before the picture, which says it
        if state in ENDED:
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
        """Waits until the rows are on the disk, and vouches for them."""
        for name, rows in self._rows.items():
            self._files[name] = rows.synced().facts
        self._last_sync = time.monotonic()

    def _vouch(self, *names: str) -> None:
        for name in names:
            with suppress(FileNotFoundError):  # no engine was chosen
                self._files[name] = Seal.of(self._folder / name).facts

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
        name = ticket_name(row, self._base_seed)
        facts = {name: row[name] for name in ("seed", "round", "steps")}
        save_ticket(self._folder / name, ticket, {**facts, **self._model})
        self._vouch(name)

    def _write_status(self, *, synced: bool = True) -> None:
        self._last_status = time.monotonic()
        self._status["updated"] = _now()
        write_status(self._folder, self._status, synced=synced)


Rows = list[dict[str, Any]]


def _kept(run: RunDescription) -> tuple[Rows, Rows, Rows]:
    """Reads an earlier attempt's rows, evaluations, samples; nothing where a file is damaged."""
    folder, status = run.folder, read_status(run.folder)
    if not status and (folder / ROUNDS).exists():
        _tell(folder, [STATUS])
        return [], [], []
    if status.get("probes") != run.probes:
        return [], [], []
    if harmed := damaged(folder, status):
        _tell(folder, harmed)
        return [], [], []
    if seals(status) is None:  # of an earlier version
        return read_rounds(folder), read_metrics(folder), []
    rounds, metrics, samples = (vouched_rows(folder, n) for n in (ROUNDS, METRICS, SAMPLES))
    return rounds, metrics, samples


def _tell(folder: Path, names: Sequence[str]) -> None:
    log.warning(
        "%s: %s, not what was written (damaged or missing): written again from the Store",
        folder,
        ", ".join(names),
    )


def _replayed(status: Mapping[str, Any]) -> int:
    steps = status.get("steps")
    found = steps.get("replayed") if isinstance(steps, Mapping) else None
    return found if isinstance(found, int) else 0


def _is_measured(row: Row, last_step: Step | None) -> bool:
    """Whether a row's evaluations are there too: of two files the disk may have kept either."""
    end = row.get("start_step", 0) + row["steps"]
    return (
        not row["steps"]
        or last_step == end
        or (bool(row.get("diverged")) and last_step is not None)
    )


def _place(row: Row) -> Place:
    return row["round"], row["arm"], row["seed"]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
