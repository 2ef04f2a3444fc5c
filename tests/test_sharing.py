"""A sweep costs what it must and no more, alone or with many workers, whoever dies."""

from __future__ import annotations

import errno
import json
import math
import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

import small
import sweep_worker
from forked import Forked
from lth_runner.store.lease import Lease, is_elsewhere
from lth_runner.store.store import Store
from lth_runner.training.pace import Pace
from lth_runner.training.trainer import Trainer
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from lth_runner.values.processes import place
from sweep_worker import POINTS, REWINDS, SEEDS, SPARSITIES

SHORT = 100  # steps of a training that no worker is killed in


def trainings(store: Path) -> dict[str, tuple[int, str]]:
    """Steps and final tensors of every finished training."""
    found = {}
    for folder in (store / "entries").iterdir():
        facts = json.loads((folder / "training.json").read_text())
        tensors, _ = states.load(folder / "end.safetensors")
        found[folder.name] = (facts["steps"], states.fingerprint(tensors))
    return found


def fewest_steps(length: int) -> int:
    """One dense training a seed; a chain for each (seed, rewind step), shared up to its ends."""
    densities: set[float] = set()
    for sparsity in SPARSITIES:
        num = math.ceil(math.log(1 - sparsity) / math.log(0.8) - 1e-9)
        densities |= {round(0.8**r, 9) for r in range(1, num)} | {round(1 - sparsity, 9)}
    arms = 2  # the ticket and its control
    tails = sum(length - int(rewind.removesuffix("it")) for rewind in REWINDS)
    return len(SEEDS) * (length + arms * len(densities) * tails)


@dataclass(frozen=True)
class Swept:
    """A sweep run point by point over one Store: what its points asked for, what was replayed."""

    store: Path
    keys: list[str]
    replayed: int


@pytest.fixture(scope="module")
def swept(tmp_path_factory) -> Swept:
    store, keys, replayed = tmp_path_factory.mktemp("swept"), [], []
    for point in POINTS:
        trainer = Trainer(
            sweep_worker.sweep_recipe(SHORT),
            Store(store),
            pace=Pace(replayed=replayed.append),
            run=str(point),
        )
        keys += sweep_worker.run_point(trainer, point)
    return Swept(store, keys, sum(replayed))


@pytest.mark.slow
def test_a_sweep_runs_the_fewest_steps_that_it_can(swept):
    done = trainings(swept.store)
    run = sum(steps for steps, _ in done.values())
    assert run == fewest_steps(SHORT)
    assert swept.replayed == 0
    asked = sum(done[key][0] for key in swept.keys)
    assert asked > 1.3 * run  # what sharing saved here


def test_results_are_those_of_separate_runs(tmp_path, swept):
    """Every training of a point with a Store of its own is the shared one, bit for bit."""
    recipe = replace(sweep_worker.sweep_recipe(SHORT), snapshots=())
    shared = trainings(swept.store)
    for point in (POINTS[0], POINTS[3], POINTS[-1]):
        own = tmp_path / str(POINTS.index(point))
        sweep_worker.run_point(Trainer(recipe, Store(own)), point)
        alone = trainings(own)
        assert alone.items() <= shared.items()


def start(store: Path, first: int) -> Forked:
    return Forked.start(sweep_worker.main, store, first, logs=store.parent)


@pytest.fixture(scope="module")
def serial(tmp_path_factory) -> dict[str, tuple[int, str]]:
    store = tmp_path_factory.mktemp("serial") / "store"
    start(store, 0).finish()
    return trainings(store)


def is_training(store: Path) -> bool:
    try:
        return any(store.glob("drafts/*/*"))
    except FileNotFoundError:  # published while we looked
        return True


def workers_with_kills(store: Path, *, kills: int, seed: int) -> int:
    """Four workers over one sweep; a random one is killed and replaced so many times."""
    moments = random.Random(seed)
    workers = [start(store, 2 * i) for i in range(4)]
    killed = 0
    while killed < kills and any(worker.is_running for worker in workers):
        while not is_training(store) and any(worker.is_running for worker in workers):
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.6))
        index = moments.randrange(4)
        if workers[index].is_running:
            workers[index].kill()
            workers[index] = start(store, moments.randrange(9))
            killed += 1
    for worker in workers:
        worker.finish()
    return killed


def assert_whole(store: Path, serial: dict[str, tuple[int, str]]) -> None:
    assert trainings(store) == serial
    assert not (store / "damaged").exists()
    assert not list((store / "leases").glob("*"))
    assert not list(store.rglob("*.part"))


def test_four_workers_and_a_killed_one_do_what_one_would(tmp_path, serial):
    store = tmp_path / "store"
    assert workers_with_kills(store, kills=2, seed=0) >= 1
    assert_whole(store, serial)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_four_workers_and_many_kills_do_what_one_would(tmp_path, serial, seed):
    store = tmp_path / "store"
    workers_with_kills(store, kills=5, seed=seed)
    assert_whole(store, serial)


def test_a_lease_is_held_by_one_and_taken_over_when_its_owner_is_gone(tmp_path):
    path = tmp_path / "leases" / "key"
    lease = Lease.take(path)
    assert lease is not None
    assert Lease.take(path) is None
    lease.release()
    again = Lease.take(path)
    assert again is not None
    # an owner on this machine whose process is gone
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    owner = json.loads(path.read_text())
    path.write_text(json.dumps({**owner, "pid": gone.pid, "token": "gone"}))
    successor = Lease.take(path)
    assert successor is not None
    again.release()  # no longer its own: leaves the successor's alone
    assert path.exists()
    successor.release()
    assert not path.exists()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_lease_is_taken_over_from_an_owner_that_ended_and_that_nobody_waited_for(tmp_path):
    path = tmp_path / "leases" / "key"
    if not (ended := os.fork()):
        Lease.take(path)
        os._exit(0)
    os.waitid(os.P_PID, ended, os.WEXITED | os.WNOWAIT)
    try:
        assert json.loads(path.read_text())["pid"] == ended
        successor = Lease.take(path)
        assert successor is not None
        successor.release()
    finally:
        os.waitpid(ended, 0)


def test_a_lease_of_another_machine_is_taken_over_once_its_file_is_cold(tmp_path):
    path = tmp_path / "key"
    path.write_text(json.dumps({"place": "elsewhere", "pid": 1, "token": "theirs"}))
    assert Lease.take(path) is None
    os.utime(path, (time.time() - 1000, time.time() - 1000))
    taken = Lease.take(path)
    assert taken is not None
    taken.release()


@pytest.mark.parametrize("pid", [0, -1, 2**40, 10**25])
def test_a_lease_of_a_number_that_no_process_has_is_taken_over_at_once(tmp_path, pid):
    path = tmp_path / "key"
    path.write_text(json.dumps({"place": place(), "pid": pid, "began": None, "token": "theirs"}))
    lease = Lease.take(path)
    assert lease is not None
    lease.release()


@pytest.mark.parametrize("content", ["", "{", '{"token": 1}', "[]"])
def test_a_lease_that_says_nothing_is_taken_over_once_it_is_cold(tmp_path, content):
    path = tmp_path / "key"
    path.write_text(content)
    assert Lease.take(path) is None  # whoever takes it may just be writing
    assert is_elsewhere(path)  # and so it is worth waiting
    os.utime(path, (time.time() - 100, time.time() - 100))
    lease = Lease.take(path)
    assert lease is not None
    lease.release()


def test_a_lease_of_a_clock_that_ran_ahead_goes_cold_like_any(tmp_path):
    path = tmp_path / "key"
    path.write_text(json.dumps({"place": "elsewhere", "pid": 1, "token": "theirs"}))
    ahead = time.time() + 1e6
    os.utime(path, (ahead, ahead))
    assert Lease.take(path) is None
    assert abs(path.stat().st_mtime - time.time()) < 60  # its warmth is counted from now on
    time.sleep(0.02)
    lease = Lease.take(path, cold_seconds=0.01)
    assert lease is not None
    lease.release()


def test_a_full_disk_leaves_no_lease(tmp_path, monkeypatch):
    path = tmp_path / "key"

    def full(value):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lth_runner.store.lease.json.dumps", full)
    with pytest.raises(OSError, match="No space left"):
        Lease.take(path)
    monkeypatch.undo()
    lease = Lease.take(path)
    assert lease is not None
    lease.release()


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.symlink_to("nowhere"), "is a link"),
        (lambda path: os.mkfifo(path), "is a named pipe"),
    ],
)
def test_what_is_no_file_in_the_place_of_a_lease_is_told(tmp_path, plant, said):
    path = tmp_path / "key"
    plant(path)
    with pytest.raises(UserError, match=f"{said}: a lease, a small file, belongs in its place"):
        Lease.take(path)
    assert os.path.lexists(path)


def test_a_heartbeat_outlives_a_disk_that_is_away_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr("lth_runner.store.lease.BEAT_SECONDS", 0.001)
    lease, touched = Lease.take(tmp_path / "key"), threading.Event()
    fails = iter([OSError(errno.ESTALE, "Stale file handle")] * 3)

    def touch(path, **options):
        for failure in fails:
            raise failure
        touched.set()

    monkeypatch.setattr("lth_runner.store.lease.os.utime", touch)
    assert touched.wait(5)
    lease.release()


def test_a_heartbeat_keeps_the_lease_warm(tmp_path, monkeypatch):
    monkeypatch.setattr("lth_runner.store.lease.BEAT_SECONDS", 0.01)
    lease = Lease.take(tmp_path / "key")
    assert lease is not None
    os.utime(lease.path, (0, 0))
    deadline = time.monotonic() + 5
    while lease.path.stat().st_mtime < 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lease.path.stat().st_mtime > 1
    lease.release()


def test_a_training_that_another_process_holds_is_waited_for(tmp_path):
    trainer = small.trainer(tmp_path)
    job = small.dense_job(small.task())
    lease = trainer.store.claim(trainer.key(job))
    assert lease is not None
    waited = []

    def stop() -> bool:  # asked while waiting: the other process gives up
        waited.append(1)
        lease.release()
        return False

    trained = next(iter(replace(trainer, pace=Pace(stop=stop)).fit([job])))
    assert waited
    assert trained.weights
