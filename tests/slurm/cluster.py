"""A Slurm to test against, as its own commands show it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROGRAM = str(Path(sys.executable).with_name("lth-run"))
# one round of a small network on digits; a training lasts some seconds, so as to be met in it
SMALL = (
    "+scale=smoke",
    "record=local",
    "control=none",
    "probe=none",
    "device=cpu",
    "threads=1",
    "pruner.rounds=1",
    "pruner.sparsity=null",
    "train.length=10000it",
    "train.shrink_to=5000it",
    "name=small",
)
UNLIKE = ("seconds", "search_seconds", "reused")  # in rows of the same trainings
ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED"}


def why_not() -> str | None:
    """Why these tests cannot run here, or None."""
    if shutil.which("sinfo") is None:
        return "Slurm is not installed here: as root on Debian, scripts/local_slurm.sh start"
    shown = subprocess.run(
        ["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True, timeout=30
    )
    if not any(word in shown.stdout for word in ("idle", "mixed", "allocated", "completing")):
        said = (shown.stderr or shown.stdout).strip().splitlines()
        return f"Slurm has no node that is up ({said[-1] if said else 'none shown'})"
    return None


def call(*words: object, cwd: Path, expect: int | None = 0) -> str:
    """Runs a command; what it printed on stdout."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHON": sys.executable}
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert expect is None or done.returncode == expect, done.stdout + done.stderr
    return done.stdout


def submit(*overrides: str, cwd: Path, options: tuple[str, ...] = ()) -> str:
    """Submits a sweep through the script; the array's id."""
    script = ROOT / "scripts" / "slurm_array.sh"
    printed = call(script, "--time=10", *options, "--", PROGRAM, "-m", *SMALL, *overrides, cwd=cwd)
    job = printed.strip()
    assert job.isdigit(), printed
    return job


def jobs(array: str) -> list[dict[str, str]]:
    """Every task of an array, as Slurm's fields."""
    words = ["scontrol", "--oneliner", "show", "job", array]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=30).stdout
    lines = [line for line in shown.splitlines() if line.startswith("JobId=")]
    return [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]


def task(array: str, index: int) -> dict[str, str]:
    """One task; waiting ones may be shown as one line, '2-3'."""
    return next((job for job in jobs(array) if job.get("ArrayTaskId") == str(index)), {})


def until(condition: Callable[[], Any], what: str, seconds: float = 180) -> Any:
    """What the condition gives as soon as it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.2)
    return found


def ended(array: str) -> bool:
    """Whether no task of an array waits or runs."""
    return all(job.get("JobState") in ENDED for job in jobs(array))


def in_training(outputs: Path, seed: int) -> bool:
    """Whether the run of a seed has its first row, and so is in its second training."""
    for path in outputs.glob("small/*/status.json"):
        status = json.loads(path.read_text())
        rows = path.with_name("rounds.jsonl")
        if f"seed={seed}" in status["command"].split() and rows.exists():
            return status["state"] == "running" and rows.stat().st_size > 0
    return False


def states(outputs: Path) -> list[str]:
    """The state of every run."""
    paths = sorted(outputs.glob("small/*/status.json"))
    return [json.loads(path.read_text())["state"] for path in paths]


def results(outputs: Path) -> dict[str, object]:
    """What must be equal however a sweep was run: rows but for their seconds, and every ticket."""
    found: dict[str, object] = {}
    for run in sorted(outputs.glob("small/*/")):
        rows = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
        plain = [{k: v for k, v in row.items() if k not in UNLIKE} for row in rows]
        tickets = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in run.glob("tickets/*.safetensors")
        }
        found[run.name] = (plain, tickets, (run / "metrics.jsonl").read_text())
    return found
