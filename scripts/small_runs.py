"""Small runs in processes of their own, and what of them must be the same whatever happens."""

from __future__ import annotations

import base64
import hashlib
import json
import multiprocessing
import os
import sys
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest import mock

from full_disk import Disk

from lth_runner.cli import launch
from lth_runner.cli import main as cli
from lth_runner.runs.folder import CURVE, PAGE
from lth_runner.runs.pages.drawn import sealed, stale
from lth_runner.runs.pages.page import write

QUICK = "FAULTS_QUICK"  # in the environment, which processes take over
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TIMED = ("seconds", "search_seconds", "reused")  # who trained a shared one is a matter of chance
SMALL = (
    "+scale=smoke", "dataset=synthetic", "dataset.num_train=120", "dataset.num_test=60",
    "model=mlp", "model.widths=[8]", "train=sgd", "train.optimizer.lr=0.1", "threads=1",
    "train.checkpoint_minutes=0.0001", "train.eval_every=5it", "device=cpu", "record=local",
    "rewind.step=5it", "name=small",
)  # fmt: skip
SERVER = multiprocessing.get_context("forkserver")
PRELOADED = ["lth_runner.cli.launch", "lth_runner.runs.report.run_page", "torch._dynamo"]


def started(outputs: Path, words: tuple[str, ...], full_from: int | None = None) -> BaseProcess:
    """`lth-run` in a process of its own; ``full_from``: the write from which the disk is full."""
    arguments = ([*words, f"paths.outputs={outputs}"], outputs.with_suffix(".log"), full_from)
    process = SERVER.Process(target=lth_run, args=arguments, daemon=True)
    process.start()
    return process


def lth_run(words: list[str], log: Path, full_from: int | None) -> None:
    os.environ["WANDB_MODE"] = "disabled"
    handle = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    for number in (1, 2):
        os.dup2(handle, number)
    sys.argv = ["lth-run", *words]
    outputs = words[-1].partition("=")[2]
    quick = mock.patch.object(launch, "write", _pixel) if QUICK in os.environ else nullcontext()
    with quick, Disk(Path(outputs), sys.maxsize if full_from is None else full_from) as disk:
        try:
            cli.main()
        finally:
            log.with_suffix(".count").write_text(str(disk.count))


def _pixel(folder: Path) -> tuple[Path, Path]:
    """Leaves files that are whole in the place of pictures, whose drawing is half of the time."""
    files = folder / CURVE, folder / PAGE
    for file, content in zip(files, (PIXEL, sealed("a page")), strict=True):
        write(file, content)
    return files


def finished(outputs: Path, words: tuple[str, ...]) -> None:
    """Runs a command to its end; raises where it does not end well."""
    process = started(outputs, words)
    process.join(600)
    if process.exitcode != 0:
        raise RuntimeError(
            f"ended with {process.exitcode}:\n{outputs.with_suffix('.log').read_text()}"
        )


def results(outputs: Path) -> dict[str, Any]:
    """All that must be the same: rows but for their seconds, and the hash of every tensor file."""
    found: dict[str, Any] = {}
    for path in sorted(outputs.glob("small/*/*.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[str(path.relative_to(outputs))] = [
            {k: v for k, v in row.items() if k not in TIMED} for row in rows
        ]
    for pattern in ("small/*/tickets/*", "store/entries/*/end.*"):
        for path in sorted(outputs.glob(pattern)):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path.relative_to(outputs))] = content
    return found


def left_over(outputs: Path) -> list[str]:
    """What none undisturbed leaves: pieces, leases, drafts, runs not done or without pictures."""
    patterns = ("**/*.part", "store/leases/*", "store/drafts/*")
    found = [str(path) for pattern in patterns for path in outputs.glob(pattern)]
    for folder in outputs.glob("small/*"):
        status = json.loads((folder / "status.json").read_text())
        found += [f"{folder}: {status['state']}"] * (status["state"] != "done")
        found += [f"{folder}: {name}" for name in stale(folder)]
    return found


@dataclass
class Tally:
    """Counts of faults by kind, and what went wrong."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def compare(self, outputs: Path, whole: dict[str, Any], what: str) -> None:
        """Notes what differs from an undisturbed run's results, or is left over."""
        here = results(outputs)
        names = sorted(here.keys() | whole.keys())
        self.wrong += [f"{what}: {n} differs" for n in names if here.get(n) != whole.get(n)]
        self.wrong += [f"{what}: left over: {one}" for one in left_over(outputs)]
