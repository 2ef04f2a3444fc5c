"""A sweep on a real Slurm, disturbed on the way, ends as it does on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cluster import (
    PROGRAM,
    SMALL,
    call,
    ended,
    in_training,
    jobs,
    results,
    states,
    submit,
    task,
    until,
    why_not,
)

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module", autouse=True)
def slurm() -> None:
    """Asked where these tests are to run: a Slurm that is down lets one wait for an answer."""
    if reason := why_not():
        pytest.skip(f"needs a Slurm with a node that is up: {reason}")


@pytest.fixture(scope="module")
def serial(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The sweep on this machine, one point after the other."""
    here = tmp_path_factory.mktemp("serial")
    call(PROGRAM, "-m", *SMALL, "seed=0,1,2", cwd=here)
    return results(here / "outputs")


def log(here: Path, index: int) -> str:
    [path] = here.glob(f"outputs/sweeps/*/{index}.log")
    return path.read_text()


def test_an_array_with_a_requeued_and_an_expiring_task_ends_as_a_serial_sweep(
    serial: dict[str, object], tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    array = submit("seed=0,1,2", cwd=tmp_path)
    until(lambda: in_training(outputs, 0), "the first point to train")
    call("scontrol", "requeue", f"{array}_1", cwd=tmp_path)
    until(lambda: in_training(outputs, 1), "the second point to train")
    call("scancel", "--batch", "--signal=USR1", f"{array}_2", cwd=tmp_path)  # as before a time-out
    until(lambda: ended(array), "the array to end")
    assert [task(array, index)["JobState"] for index in (1, 2, 3)] == ["COMPLETED"] * 3
    assert [task(array, index)["Restarts"] for index in (1, 2, 3)] == ["1", "1", "0"]
    for index in (1, 2):
        assert "interrupted; continue with" in log(tmp_path, index)
        assert "start 2" in log(tmp_path, index)
    assert states(outputs) == ["done"] * 3
    assert results(outputs) == serial


def test_a_cancelled_task_stays_cancelled_and_the_same_sweep_again_continues_it(
    serial: dict[str, object], tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    array = submit("seed=0,1,2", cwd=tmp_path)
    until(lambda: in_training(outputs, 0), "the first point to train")
    call("scancel", f"{array}_1", cwd=tmp_path)
    until(lambda: ended(array), "the array to end")
    assert task(array, 1)["JobState"] == "CANCELLED"
    assert sorted(states(outputs)) == ["done", "done", "interrupted"]
    again = submit("seed=0,1,2", cwd=tmp_path)
    until(lambda: ended(again), "the second array to end")
    assert states(outputs) == ["done"] * 3
    assert results(outputs) == serial


def test_a_training_on_ranks_is_queued_again_and_goes_on(tmp_path: Path) -> None:
    outputs = tmp_path / "outputs"
    array = submit("seed=0", "train.shrink_to=2000it", cwd=tmp_path, options=("--ranks=2",))
    until(lambda: in_training(outputs, 0), "the point to train")
    call("scancel", "--batch", "--signal=USR1", f"{array}_1", cwd=tmp_path)  # as before a time-out
    until(lambda: ended(array), "the array to end")
    assert (task(array, 1)["JobState"], task(array, 1)["Restarts"]) == ("COMPLETED", "1")
    assert "interrupted; continue with:\n  torchrun --nproc-per-node 2" in log(tmp_path, 1)
    assert states(outputs) == ["done"]
    [status] = outputs.glob("small/*/status.json")
    assert "distributed-2" in status.read_text()


def test_a_failing_point_is_a_failed_task_and_the_others_are_done(tmp_path: Path) -> None:
    array = submit("pruner.rate=0.2,7", "train.shrink_to=20it", cwd=tmp_path)
    until(lambda: ended(array), "the array to end")
    assert task(array, 1)["JobState"] == "COMPLETED"
    assert (task(array, 2)["JobState"], task(array, 2)["ExitCode"]) == ("FAILED", "2:0")
    assert "pruner.rate=7 is outside (0, 1)" in log(tmp_path, 2)
    assert states(tmp_path / "outputs") == ["done"]


def test_the_launcher_waits_for_its_points_through_a_requeue(
    serial: dict[str, object], tmp_path: Path
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    outputs = tmp_path / "outputs"
    launcher = subprocess.Popen(
        [PROGRAM, "-m", *SMALL, "seed=0,1", "hydra/launcher=slurm"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: in_training(outputs, 0), "the first point to train")
        [folder] = outputs.glob("sweeps/*/slurm/*_0")
        call("scontrol", "requeue", folder.name, cwd=tmp_path)
        assert launcher.wait(timeout=240) == 0
    finally:
        launcher.kill()
    array = folder.name.split("_")[0]
    assert sorted(job["Restarts"] for job in jobs(array)) == ["0", "1"]
    assert states(outputs) == ["done"] * 2
    found = results(outputs)
    assert found == {run: serial[run] for run in found}


def test_the_launcher_tells_of_a_failed_point_by_its_exit_status(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    done = subprocess.run(
        [
            PROGRAM,
            "-m",
            *SMALL,
            "pruner.rate=7,0.2",
            "train.shrink_to=20it",
            "hydra/launcher=slurm",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert "error: 1 of 2 points failed" in done.stderr
    assert states(tmp_path / "outputs") == ["done"]


def test_a_mistake_is_told_before_anything_is_queued(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "scripts" / "slurm_array.sh"
    done = subprocess.run(
        [script, "--", PROGRAM, "-m", "seedd=0,1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown key 'seedd'" in done.stderr
    assert list(tmp_path.iterdir()) == []
