"""The run folder: small files that other programs may rely on."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml

from lth_runner.runs.record.record import Place, Progress, Row, Run
from lth_runner.search.ticket import Ticket
from lth_runner.store.ticket_file import save_ticket
from lth_runner.values.files import write_whole
from lth_runner.values.steps import Step

STATUS_SECONDS = 2.0
SYNC_SECONDS = 2.0  # a disk takes some milliseconds to answer: as long as a small training's probes
DRAW_SECONDS = 60.0  # between two pictures on the way, at least
DRAW_SHARE = 0.01  # of a run's time that they may take, at most: they grow with its rows
log = logging.getLogger(__name__)


class RunFolder:
    """``config.yaml status.json rounds.jsonl metrics.jsonl environment.json tickets/``.

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

    def done(self, run: Run) -> set[Place]:
        """The places that an earlier attempt recorded with the same probes."""
        if self._earlier(run).get("probes") != run.probes:
            return set()
        last = {_place(row): row["step"] for row in whole_rows(run.folder / "metrics.jsonl")}
        rows = whole_rows(run.folder / "rounds.jsonl")
        return {_place(row) for row in rows if _is_measured(row, last.get(_place(row)))}

    def _earlier(self, run: Run) -> dict[str, Any]:
        """The status that an earlier attempt left, empty where there is none."""
        try:
            found = json.loads((run.folder / "status.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def open(self, run: Run) -> None:
        self._folder = run.folder
        (run.folder / "tickets").mkdir(parents=True, exist_ok=True)
        done = self.done(run)
        self._steps["replayed"] = self._earlier(run).get("steps", {}).get("replayed", 0)
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
        for name in ("rounds.jsonl", "metrics.jsonl"):
            path = run.folder / name
            rows = [row for row in whole_rows(path) if _place(row) in done]
            replace_text(path, "".join(json.dumps(row) + "\n" for row in rows))
            for row in rows if name == "rounds.jsonl" else ():
                self._count(row)
        replace_text(run.folder / "config.yaml", yaml.safe_dump(dict(run.config), sort_keys=False))
        replace_text(run.folder / "environment.json", json.dumps(run.environment, indent=2) + "\n")
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
        _append(self._folder / "metrics.jsonl", rows)

    def round(self, row: Row, ticket: Ticket) -> None:
        if row["arm"] == "ticket":
            self._save_ticket(row, ticket)
        new_round, self._round = row["round"] > self._round >= 0, row["round"]
        if new_round and (began := time.monotonic()) > self._next_picture:
            self._try_to_draw()  # the round before is complete
            ended = time.monotonic()
            self._next_picture = ended + max(DRAW_SECONDS, (ended - began) / DRAW_SHARE)
        _append(self._folder / "rounds.jsonl", [row])
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
        elif whole_rows(self._folder / "rounds.jsonl"):
            self._try_to_draw()

    def replayed(self, steps: Step) -> None:
        """Counts steps that were run again, for a snapshot nobody had kept or for a probe."""
        self._steps["replayed"] += steps

    def _count(self, row: Row) -> None:
        """Training steps asked for, and whether they were run for this run or reused."""
        self._steps["asked"] += row["steps"]
        self._steps["reused" if row["reused"] else "run"] += row["steps"]

    def _sync(self) -> None:
        """Waits until the rows are on the disk."""
        for name in ("metrics.jsonl", "rounds.jsonl"):
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
        """A picture on the way is a view: its failure ends no training."""
        try:
            self._draw(self._folder)
        except Exception as error:
            log.warning("the picture of %s could not be drawn: %s", self._folder, error)

    def _save_ticket(self, row: Row, ticket: Ticket) -> None:
        suffix = "" if row["seed"] == self._base_seed else f"-seed-{row['seed']}"
        path = self._folder / "tickets" / f"round-{row['round']:02d}{suffix}.safetensors"
        save_ticket(path, ticket, {"seed": row["seed"], "round": row["round"], **self._model})

    def _write_status(self, *, synced: bool = True) -> None:
        self._last_status = time.monotonic()
        self._status["updated"] = _now()
        text = json.dumps(self._status, indent=2) + "\n"
        replace_text(self._folder / "status.json", text, synced=synced)


def _is_measured(row: Row, last_step: Step | None) -> bool:
    """Whether a row's evaluations are there too: of two files the disk may have kept either."""
    end = row["start_step"] + row["steps"]
    return not row["steps"] or last_step == end or (row["diverged"] and last_step is not None)


def is_whole(folder: Path, status: Mapping[str, Any]) -> bool:
    """Whether a finished run's folder still holds its rows, its tickets and its config."""
    rows = whole_rows(folder / "rounds.jsonl")
    num_tickets = sum(row["arm"] == "ticket" for row in rows)
    return (
        sum(row["steps"] for row in rows) == status.get("steps", {}).get("asked")
        and len(list((folder / "tickets").glob("*.safetensors"))) >= num_tickets > 0
        and all((folder / name).exists() for name in ("config.yaml", "environment.json"))
    )


def whole_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a jsonl file up to the first that a kill or a power cut left torn."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    rows: list[dict[str, Any]] = []
    for line in content.split(b"\n")[:-1]:  # what follows the last newline is no whole row
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def replace_text(path: Path, text: str, *, synced: bool = True) -> None:
    """Writes a text file whole or not at all."""
    write_whole(path, text.encode(), synced=synced)


def _append(path: Path, rows: Sequence[Row]) -> None:
    text = "".join(json.dumps(plain(row)) + "\n" for row in rows)
    with path.open("a") as opened:
        opened.write(text)


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON has it: NaN and infinity become null, at any depth."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _place(row: Row) -> Place:
    return row["round"], row["arm"], row["seed"]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
