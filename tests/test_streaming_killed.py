"""Workers that are killed or stuck, and a run that is killed among them: told, and equal bits."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lth_runner.problem.data import ImageTransforms, SampledData, imagefolder, workers
from lth_runner.values.errors import UserError
from lth_runner.values.processes import is_alive
from test_kill import results

pytestmark = pytest.mark.slow

COMMAND = (
    "dataset=imagefolder", "dataset.shape=[3,8,8]", "dataset.num_classes=2", "dataset.stream=true",
    "dataset.augment_crop=1", "model=mlp", "model.widths=[8]", "train=sgd", "train.batch_size=8",
    "train.length=4ep", "train.eval_every=2ep", "train.checkpoint_minutes=0.0005",
    "pruner.sparsity=null", "pruner.rounds=1", "control=none", "probe=none", "replicates=1",
    "record=local", "device=cpu", "threads=1",
)  # fmt: skip


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos") / "photos"
    rng = np.random.default_rng(0)
    for split, num in (("train", 60), ("test", 10)):
        for label in range(2):
            place = root / split / f"class{label}"
            place.mkdir(parents=True)
            for number in range(num):
                values = rng.integers(0, 256, (10, 12, 3), dtype=np.uint8)
                Image.fromarray(values).save(place / f"{number}.png")
    return root


@dataclass(frozen=True)
class Stuck:
    """Waits for ever in the worker that finds the flag first, or in each where it stays."""

    flag: Path
    stays: bool = False

    def __call__(self, image: Image.Image) -> Image.Image:
        if self.flag.exists():
            if not self.stays:
                self.flag.unlink()
            time.sleep(1000)
        return image.resize((8, 8))


def load(photos: Path, num_workers: int, flag: Path, *, stays: bool = False) -> SampledData:
    found = imagefolder(
        root=str(photos), shape=[3, 8, 8], num_classes=2, stream=True, workers=num_workers,
        transforms=ImageTransforms(Stuck(flag, stays), Stuck(flag, stays)),
        mean=[0.5] * 3, std=[0.25] * 3, cache=str(photos.parent / "cache"),
    )  # fmt: skip
    assert isinstance(found, SampledData)
    return found


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_worker_is_told_and_its_batch_made_again(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, sent: signal.Signals
) -> None:
    expected = load(photos, 0, tmp_path / "flag").stream(8, 1)
    before = {child.pid for child in multiprocessing.active_children()}
    stream = load(photos, 2, tmp_path / "flag").stream(8, 1)
    for step in range(3):
        assert torch.equal(stream[step][0], expected[step][0])
    mine = [c.pid for c in multiprocessing.active_children() if c.pid not in before]
    assert len(mine) == 2
    os.kill(mine[0] or 0, sent)
    for step in range(3, 20):
        assert torch.equal(stream[step][0], expected[step][0])
    assert "workers that make batch" in caplog.text


def test_a_stuck_worker_is_told_and_its_batch_made_again(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load(photos, 0, tmp_path / "flag").stream(8, 1)
    stream = load(photos, 2, tmp_path / "flag").stream(8, 1)
    assert torch.equal(stream[0][0], expected[0][0])
    monkeypatch.setattr(workers, "PATIENCE", 20.0)  # to start new ones too, on a busy machine
    (tmp_path / "flag").touch()
    for step in range(1, 12):
        assert torch.equal(stream[step][0], expected[step][0])
    assert "no batch came for 20 seconds" in caplog.text


def test_workers_that_are_always_stuck_end_the_run(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = load(photos, 1, tmp_path / "flag", stays=True).stream(8, 1)
    monkeypatch.setattr(workers, "PATIENCE", 2.0)
    (tmp_path / "flag").touch()
    with pytest.raises(UserError, match=r"3 sets of workers, and none made it \(no batch came"):
        stream[0]


def descendants(pid: int) -> set[int]:
    """The processes that a process has started, and those that these have."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # ended meanwhile
            continue
    found = {pid}
    while more := {child for child, of in parents.items() if of in found} - found:
        found |= more
    return found - {pid}


def test_a_run_killed_in_the_midst_of_an_epoch_goes_on_with_equal_bits(
    photos: Path, tmp_path: Path
) -> None:
    words = [*COMMAND, f"dataset.root={photos}", f"dataset.cache={tmp_path / 'cache'}"]

    def start(name: str, num_workers: int) -> subprocess.Popen[bytes]:
        more = (f"paths.outputs={tmp_path / name}", f"dataset.workers={num_workers}")
        return subprocess.Popen([sys.executable, "-m", "lth_runner", *words, *more], cwd=tmp_path)

    assert start("whole", 0).wait() == 0
    killed = start("killed", 2)
    saved = None
    for _ in range(2400):
        saved = next((tmp_path / "killed").rglob("checkpoint*"), None)
        if saved is not None:
            break
        time.sleep(0.05)
    assert saved is not None
    workers_of_it = descendants(killed.pid)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert workers_of_it
    for _ in range(200):
        if not any(map(is_alive, workers_of_it)):
            break
        time.sleep(0.1)
    assert not any(map(is_alive, workers_of_it))
    assert start("killed", 1).wait() == 0
    assert found(tmp_path / "killed") == found(tmp_path / "whole")


def found(outputs: Path) -> dict[str, object]:
    """Rows and tensors; a ticket's file also holds its config, with the number of workers."""
    every = results(outputs)
    tensors = every["tensors"]
    assert isinstance(tensors, dict)
    kept = {name: value for name, value in tensors.items() if "/tickets/" not in f"/{name}"}
    assert kept
    return {**every, "tensors": kept}
