"""Kill -9 at any moment: the same command ends with the same masks, weights and rows."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# three rounds and two arms of a network whose trainings last about a second each
COMMAND = [
    "record=local",
    "replicates=1",
    "pruner.sparsity=null",
    "pruner.rounds=2",
    "control=reinit",
    "train.length=40ep",
    "train.eval_every=4ep",
    "train.checkpoint_minutes=0.0005",
    "rewind.step=30it",
    "dataset.augment_crop=1",
]

TIMES = ("seconds", "search_seconds")


def start(outputs: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lth_runner", *COMMAND, f"paths.outputs={outputs}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def finish(outputs: Path) -> str:
    process = start(outputs)
    printed, _ = process.communicate(timeout=240)
    assert process.returncode == 0, printed
    return printed


def results(outputs: Path) -> dict[str, object]:
    """All that must be equal: rows but for their seconds, and every tensor."""
    [run] = [path.parent for path in outputs.glob("*/*/rounds.jsonl")]
    rows = [json.loads(line) for line in (run / "rounds.jsonl").read_text().splitlines()]
    tensors = {
        path.relative_to(outputs).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in (run / "tickets", outputs / "store" / "entries")
        for path in folder.rglob("*.safetensors")
        if not path.name.startswith("step-")  # they hold seconds
    }
    return {
        "rows": [{k: v for k, v in row.items() if k not in TIMES} for row in rows],
        "metrics": (run / "metrics.jsonl").read_text(),
        "tensors": tensors,
    }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> dict[str, object]:
    outputs = tmp_path_factory.mktemp("whole")
    finish(outputs)
    return results(outputs)


def is_training(store: Path) -> bool:
    try:
        return any(store.glob("drafts/*/*"))
    except FileNotFoundError:  # published while we looked
        return True


def killed_until_done(outputs: Path, *, kills: int, seed: int) -> int:
    """Kills the command so many times in mid-training, then lets it end."""
    moments, done = random.Random(seed), 0
    for _ in range(kills):
        process = start(outputs)
        while process.poll() is None and not is_training(outputs / "store"):
            time.sleep(0.01)  # the first kills must not all fall into the imports
        time.sleep(moments.uniform(0.0, 1.5))
        done += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.returncode == 0:
            break
    finish(outputs)
    return done


def test_a_run_killed_three_times_ends_as_if_it_had_not_been(tmp_path, uninterrupted):
    assert killed_until_done(tmp_path, kills=3, seed=0) >= 1
    assert results(tmp_path) == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_killed_many_times_ends_as_if_it_had_not_been(tmp_path, uninterrupted, seed):
    assert killed_until_done(tmp_path, kills=8, seed=seed) >= 3
    assert results(tmp_path) == uninterrupted


def test_the_same_command_twice_writes_identical_files(tmp_path, uninterrupted):
    finish(tmp_path)
    assert results(tmp_path) == uninterrupted
    rows = (next(tmp_path.glob("*/*/rounds.jsonl"))).read_text()
    printed = finish(tmp_path)  # and once more: done, returns at once
    assert "step" not in printed.split("verdict")[0]
    assert next(tmp_path.glob("*/*/rounds.jsonl")).read_text() == rows
