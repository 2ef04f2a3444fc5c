"""Kill -9 at any moment: the same command ends with the same masks, weights and rows."""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
from pathlib import Path

import pytest

from command import lth_run
from forked import Forked, lth_run_forked

# three rounds and two arms of a network whose trainings last about a quarter of a second each
COMMAND = [
    "record=local",
    "replicates=1",
    "pruner.sparsity=null",
    "pruner.rounds=2",
    "control=reinit",
    "train.length=10ep",
    "train.eval_every=2ep",
    "train.checkpoint_minutes=0.0005",  # some of them in a training
    "rewind.step=30it",
    "dataset.augment_crop=1",
]

TIMES = ("seconds", "search_seconds")


def start(outputs: Path) -> Forked:
    words = (*COMMAND, f"paths.outputs={outputs}")
    return lth_run_forked(*words, logs=outputs.parent, pictures=False)


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
    outputs = tmp_path_factory.mktemp("whole") / "outputs"
    start(outputs).finish()
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
        run = start(outputs)
        while run.is_running and not is_training(outputs / "store"):
            time.sleep(0.01)  # the first kills must not all fall into what comes before
        time.sleep(moments.uniform(0.0, 0.4))
        done += run.is_running
        if run.kill() == 0:
            break
    start(outputs).finish()
    return done


def test_a_run_killed_three_times_ends_as_if_it_had_not_been(tmp_path, uninterrupted):
    outputs = tmp_path / "outputs"
    assert killed_until_done(outputs, kills=3, seed=0) >= 1
    assert results(outputs) == uninterrupted


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_run_killed_many_times_ends_as_if_it_had_not_been(tmp_path, uninterrupted, seed):
    outputs = tmp_path / "outputs"
    assert killed_until_done(outputs, kills=8, seed=seed) >= 3
    assert results(outputs) == uninterrupted


@pytest.mark.slow
def test_the_same_command_twice_writes_identical_files(tmp_path, uninterrupted):
    command = (*COMMAND, f"paths.outputs={tmp_path}")
    assert lth_run(*command).status == 0  # in this process: strings hash to other numbers here
    assert results(tmp_path) == uninterrupted
    rows = (next(tmp_path.glob("*/*/rounds.jsonl"))).read_text()
    again = lth_run(*command)  # and once more: done, returns at once
    assert again.status == 0
    assert not re.search(r"step +\d+/\d+", again.out)  # no training says where it stands
    assert next(tmp_path.glob("*/*/rounds.jsonl")).read_text() == rows
