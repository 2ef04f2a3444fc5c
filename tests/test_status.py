"""`lth-status`: every state of a point, what to start again, and what never leaves the Store."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pexpect
import pytest
import yaml

from lth_runner.cli import status as command
from lth_runner.runs.quantities import duration, size
from lth_runner.runs.status import drawing, liveness, retry
from lth_runner.runs.status.naming import labels
from lth_runner.runs.status.point import Point
from lth_runner.runs.status.reading import read_points
from lth_runner.runs.status.store_care import remove, survey
from lth_runner.values.errors import UserError

NOW = datetime(2100, 1, 2, 12, 0, tzinfo=timezone.utc)
PROGRAM = [sys.executable, "-m", "lth_runner.cli.status"]
DAY = 24 * 3600


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "_now", lambda: NOW)


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).isoformat(timespec="seconds")


def row(number: int, arm: str = "ticket", seed: int = 0, **more: Any) -> dict[str, Any]:
    key = f"{arm}{number}{seed}"
    known = {"sparsity": 1 - 0.8**number, "test_accuracy": 0.9 + seed / 100, "training_key": key}
    return {"round": number, "arm": arm, "seed": seed, **known, **more}


def aged(path: Path, seconds: float) -> None:
    stamp = NOW.timestamp() - seconds
    os.utime(path, (stamp, stamp))


def run(
    outputs: Path,
    run_id: str,
    state: str = "done",
    *,
    name: str = "digits",
    config: dict[str, Any] | None = None,
    rows: list[dict[str, Any]] | None = None,
    **status: Any,
) -> Path:
    """A run folder as RunFolder leaves it."""
    folder = outputs / name / run_id
    folder.mkdir(parents=True)
    facts = {
        "state": state, "round": 0, "rounds": 3, "started": ago(120), "updated": ago(2),
        "error": None, "name": name, "command": f"lth-run name={name} seed={run_id}",
        "host": "elsewhere", "pid": 1, "probes": "p",
    }  # fmt: skip
    (folder / "status.json").write_text(json.dumps(facts | status))
    if config is not None:
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    text = "".join(json.dumps(one) + "\n" for one in rows or [])
    (folder / "rounds.jsonl").write_text(text)
    return folder


def sweep(outputs: Path, points: list[dict[str, Any]], when: str = "t1", **owner: Any) -> Path:
    folder = outputs / "sweeps" / when
    folder.mkdir(parents=True)
    (folder / "points.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    here = {"pid": os.getpid(), "host": socket.gethostname(), "started": ago(300)}
    (folder / "sweep.json").write_text(json.dumps(here | owner))
    return folder


def gone() -> int:
    """The number of a process that has ended."""
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


def only(outputs: Path) -> Point:
    (point,) = read_points(outputs, NOW)
    return point


def shown(outputs: Path, *, status: int = 0, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert command.main([str(outputs)]) == status
    return capsys.readouterr().out.splitlines()


# ---- states


def test_a_finished_point_shows_its_last_tickets_sparsity_and_mean_accuracy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(n, arm, seed) for n in (0, 1) for arm in ("ticket", "reinit") for seed in (0, 2)]
    rows.append(row(1, "shuffle", 0, test_accuracy=0.1))
    run(tmp_path, "a", rows=rows)
    lines = shown(tmp_path, capsys=capsys)
    assert lines == [
        "done  digits/a  sparsity 0.2000  test 91.00 %  mean of 2",
        "",
        "1 point: 1 done",
    ]


def test_a_finished_point_shows_the_headline_of_its_problem(tmp_path: Path) -> None:
    folder = run(tmp_path, "a", rows=[row(0, test_perplexity=12.34)])
    measures = [{"name": "perplexity", "better": "lower"}, {"name": "accuracy"}]
    (folder / "problem.json").write_text(json.dumps({"measures": measures}))
    assert drawing.listing([only(tmp_path)]).splitlines()[0] == (
        "done  digits/a  sparsity 0.0000  test perplexity 12.3"
    )


def test_a_finished_point_whose_last_training_diverged_says_so(tmp_path: Path) -> None:
    run(tmp_path, "a", rows=[row(0, test_accuracy=None, diverged=True)])
    assert "at the end: diverged?" in drawing.listing([only(tmp_path)])
    told = drawing.listing([dataclasses.replace(only(tmp_path), state="diverged")])
    assert told.splitlines()[0].endswith("no accuracy at the end")


RUNNING = {"round": 1, "arm": "reinit", "seed": 5, "step": 50, "total": 100}


def test_a_running_point_shows_place_share_and_time_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 2 replicates, 2 arms, 3 rounds: 2 + 4 + 4 trainings. Before it: 2 dense, 2 of seed 4, the
    # ticket of seed 5; half of its own. 5.5 of 10 took 110 seconds.
    config = {"seed": 4, "replicates": 2, "control": {"reinit": {"_target_": "x"}}}
    run(tmp_path, "a", "running", config=config, started=ago(112), **RUNNING)
    point = only(tmp_path)
    assert point.progress == pytest.approx(0.55)
    assert point.seconds_left == pytest.approx(90)
    (line, *_) = shown(tmp_path, capsys=capsys)
    assert line == (
        "running  digits/a  round 1/2 reinit seed 5 step  50/100  55 %  about 90 s left"
    )


def test_the_time_left_counts_only_what_this_attempt_has_done(tmp_path: Path) -> None:
    folder = run(
        tmp_path, "a", "running", config={"seed": 0, "replicates": 1, "control": {}},
        rounds=4, round=2, arm="ticket", seed=0, step=100, total=100, started=ago(102),
    )  # fmt: skip
    (folder / "tickets").mkdir()
    for number, touched in ((0, 5000), (1, 4000), (2, 10)):
        path = folder / "tickets" / f"round-0{number}.safetensors"
        path.touch()
        aged(path, touched)
    # of 4 trainings 2 were there, the third took 100 seconds
    assert only(tmp_path).seconds_left == pytest.approx(100)


def test_without_a_dense_training_controls_stand_beside_the_first_round(tmp_path: Path) -> None:
    # 2 replicates of 2 arms in one round: the ticket of seed 5 and half of its control are done
    config = {"seed": 5, "replicates": 2, "control": {"reinit": {}}, "pruner": {"dense": False}}
    run(tmp_path, "a", "running", config=config, rounds=1, **{**RUNNING, "round": 0})
    assert only(tmp_path).progress == pytest.approx(1.5 / 4)


def test_rows_count_where_a_status_knows_no_step(tmp_path: Path) -> None:
    config = {"seed": 0, "replicates": 1, "control": {"reinit": {}}}
    run(tmp_path, "a", "interrupted", config=config, round=1, rows=[row(0), row(1)])
    assert only(tmp_path).progress == pytest.approx(2 / 5)


def test_a_failed_point_says_the_first_line_of_its_error_in_full_at_any_width(
    tmp_path: Path,
) -> None:
    error = "OutOfMemoryError: " + "x" * 200
    run(tmp_path, "a", "failed", error=error + "\n  File ...")
    run(tmp_path, "b", "interrupted")
    text = drawing.listing(read_points(tmp_path, NOW), width=40, height=3)
    assert text.splitlines()[:2] == [
        "failed       digits/a  seed=a  (round 0/2, 0 %)",
        f"    {error}",
    ]
    assert "File ..." not in text


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        ({"updated": ago(599)}, "running", None),
        ({"updated": ago(700)}, "dead", "no sign of life for 12 min (on elsewhere)"),
        ({"host": socket.gethostname(), "pid": os.getpid()}, "running", None),
        (
            {"host": socket.gethostname(), "pid": os.getpid(), "updated": ago(700)},
            "dead",
            f"no sign of life for 12 min, though process {os.getpid()} exists",
        ),
        ({"updated": "yesterday"}, "dead", "no time stamp (on elsewhere)"),
    ],
    ids=["recent", "silent", "here", "silent here", "no time"],  # no number that differs by process
)
def test_a_running_point_without_a_sign_of_life_is_dead(
    tmp_path: Path, status: dict[str, Any], state: str, reason: str | None
) -> None:
    run(tmp_path, "a", "running", **status)
    point = only(tmp_path)
    assert (point.state, point.reason) == (state, reason)


def test_a_running_point_whose_process_is_gone_is_dead_at_once(tmp_path: Path) -> None:
    pid = gone()
    run(tmp_path, "a", "running", host=socket.gethostname(), pid=pid)
    point = only(tmp_path)
    assert (point.state, point.reason) == ("dead", f"its process {pid} is gone")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_process_that_ended_and_that_nobody_waited_for_is_gone(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped
    here = {"host": socket.gethostname(), "pid": ended.pid}
    try:
        run(tmp_path, "0", "running", **here)
        os.kill(ended.pid, 0)  # the number is taken still
        point = only(tmp_path)
    finally:
        ended.wait()
    assert (point.state, point.reason) == ("dead", f"its process {ended.pid} is gone")


def test_a_process_that_began_later_only_has_the_same_number() -> None:
    owner = {"host": socket.gethostname(), "pid": os.getpid()}
    assert liveness.lives(owner, datetime.now(timezone.utc)) is True
    if Path("/proc/self/stat").exists():
        assert liveness.lives(owner, datetime(2001, 1, 1, tzinfo=timezone.utc)) is False
    assert liveness.lives({**owner, "host": "elsewhere"}, NOW) is None
    assert liveness.lives({}, NOW) is None


def test_a_warm_lease_is_a_sign_of_life(tmp_path: Path) -> None:
    run(tmp_path, "a", "running", updated=ago(3000))  # it waits for another's training
    lease = tmp_path / "store" / "leases" / "run-digits-a"
    lease.parent.mkdir(parents=True)
    lease.touch()
    for age, state in ((5, "running"), (700, "dead")):
        aged(lease, age)
        assert only(tmp_path).state == state


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"state": 3}'])
def test_a_torn_status_is_a_dead_point_and_no_traceback(tmp_path: Path, text: str) -> None:
    (run(tmp_path, "a") / "status.json").write_text(text)
    assert only(tmp_path).state == "dead"


def points_of(count: int) -> list[dict[str, Any]]:
    return [
        {"command": f"lth-run seed={n} name=digits", "name": None, "run_id": None}
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("owner", "state"),
    [
        ({}, "waiting"),
        ({"pid": "gone"}, "missing"),
        ({"host": "elsewhere"}, "waiting"),  # new
        ({"host": "elsewhere", "started": ago(5000)}, "missing"),
    ],
)
def test_a_point_without_a_folder_waits_while_its_sweep_lives(
    tmp_path: Path, owner: dict[str, Any], state: str
) -> None:
    sweep(tmp_path, points_of(2), **{k: gone() if v == "gone" else v for k, v in owner.items()})
    words = "lth-run name=digits seed=0"  # begun: the same in another order
    run(tmp_path, "0", command=words, updated=ago(5000))
    found = {point.command: point.state for point in read_points(tmp_path, NOW)}
    assert found == {words: "done", "lth-run seed=1 name=digits": state}


def test_a_sweep_elsewhere_lives_while_one_of_its_points_does(tmp_path: Path) -> None:
    sweep(tmp_path, points_of(2), host="elsewhere", started=ago(5000))
    run(tmp_path, "0", "running")
    assert {point.state for point in read_points(tmp_path, NOW)} == {"running", "waiting"}


def test_a_point_of_two_sweeps_is_one_and_waits_when_either_lives(tmp_path: Path) -> None:
    sweep(tmp_path, points_of(1), "t1")
    sweep(tmp_path, points_of(1), "t2", pid=gone())
    assert [point.state for point in read_points(tmp_path, NOW)] == ["waiting"]


def test_a_described_point_is_found_by_its_run_id(tmp_path: Path) -> None:
    sweep(tmp_path, [{"command": "lth-run a=1", "name": "digits", "run_id": "0"}], pid=gone())
    run(tmp_path, "0", command="lth-run a=1.0 probe=none")
    assert only(tmp_path).state == "done"


# ---- names


def test_points_are_named_by_the_keys_in_which_they_differ(tmp_path: Path) -> None:
    for number, (sparsity, step) in enumerate([(0.5, "0it"), (0.5, "2000it"), (0.95, "0it")]):
        config = {
            "name": "digits", "seed": 0, "paths": {"outputs": str(number)},
            "pruner": {"sparsity": sparsity, "search": {"schedule": {"sparsity": sparsity}}},
            "rewind": {"step": step},
        }  # fmt: skip
        run(tmp_path, str(number), config=config, command="lth-run")
    assert labels(read_points(tmp_path, NOW)) == [
        "pruner.sparsity=0.5   rewind.step=0it",
        "pruner.sparsity=0.5   rewind.step=2000it",
        "pruner.sparsity=0.95  rewind.step=0it",
    ]


def test_what_was_asked_for_names_points_that_have_not_begun(tmp_path: Path) -> None:
    configs = {
        n: {"model": {"_target_": f"lth_runner.problem.models.{n}", "widths": [8]}}
        for n in ("mlp", "conv")
    }
    for name, config in configs.items():
        no_matter = f"probe=none train.snapshots=[{len(name)}it]"
        line = f"lth-run model={name} train.lr=0.001 {no_matter} name=digits"
        run(tmp_path, name, config={**config, "train": {"lr": 0.001}}, command=line)
    described = [f"lth-run model={name} train.lr=0.001 name=digits" for name in (*configs, "vgg")]
    sweep(tmp_path, [{"command": line, "name": None, "run_id": None} for line in described])
    assert sorted(labels(read_points(tmp_path, NOW))) == ["model=conv", "model=mlp", "model=vgg"]


def test_experiments_of_different_names_are_not_compared(tmp_path: Path) -> None:
    run(tmp_path, "0", config={"seed": 0}, command="lth-run")
    run(tmp_path, "1", config={"seed": 1}, command="lth-run", name="other")
    assert labels(read_points(tmp_path, NOW)) == ["", ""]


# ---- the listing


def every_state(outputs: Path) -> None:
    run(outputs, "0", rows=[row(0)], steps={"asked": 60, "run": 50, "reused": 10, "replayed": 0})
    run(outputs, "1", "running", steps={"asked": 1000, "run": 0, "reused": 1000, "replayed": 7})
    run(outputs, "2", "failed", error="OutOfMemoryError: no")
    run(outputs, "3", "interrupted")
    run(outputs, "4", "running", updated=ago(4000))
    sweep(outputs, [{"command": "lth-run seed=5", "name": "digits", "run_id": None}], "t1")
    absent = [{"command": "lth-run seed=6", "name": "digits", "run_id": None}]
    sweep(outputs, absent, "t2", pid=gone())
    run(outputs, "8", "failed", error="UserError: mend this")


def test_the_listing_puts_what_needs_a_person_first_and_sums_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every_state(tmp_path)
    lines = shown(tmp_path, status=1, capsys=capsys)
    bad, well = ["failed", "dead", "missing", "refused"], ["interrupted", "running", "waiting"]
    order = [*bad, *well, "done"]
    heads = [*lines[:8:2], *lines[8:12]]
    assert [line.split()[0] for line in heads] == order
    assert len({line.index("digits/") for line in heads}) == 1  # aligned
    assert [line.strip() for line in lines[1:8:2]] == [
        "OutOfMemoryError: no", "no sign of life for 1 h 7 min (on elsewhere)",
        "no run folder, though sweep t2 has ended", "mend this",
    ]  # fmt: skip
    assert lines[12:] == [
        "",
        f"8 points: {', '.join(f'1 {state}' for state in order)}",
        "steps: 1,060 asked, 50 run, 1,010 reused, 7 replayed",
    ]


@pytest.mark.parametrize(
    ("state", "status"), [("done", 0), ("interrupted", 0), ("running", 0), ("failed", 1)]
)
def test_the_exit_status_is_1_where_a_point_needs_a_person(
    tmp_path: Path, state: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "0", state)
    shown(tmp_path, status=status, capsys=capsys)


def test_a_small_screen_cuts_what_went_well_and_never_what_did_not(tmp_path: Path) -> None:
    for number in range(20):
        run(tmp_path, f"f{number}", "failed", error=f"E{number}")
        run(tmp_path, f"d{number}", rows=[row(0)])
    points = read_points(tmp_path, NOW)
    lines = drawing.listing(points, width=56, height=10).splitlines()
    assert set(lines[1:40:2]) == {f"    E{number}" for number in range(20)}
    assert lines[40] == "and 20 more: 20 done"
    tall = drawing.listing(points, width=56, height=50).splitlines()
    assert len(tall) == 49  # the cursor has a line of its own
    assert all(len(line) <= 56 for line in tall)
    assert "more: 14 done" in tall[-3]
    assert tall[40].endswith("test 90.00 %")  # names are cut before results


def test_columns_are_those_of_a_folder_and_a_long_one_widens_itself_alone(tmp_path: Path) -> None:
    for number in range(2):
        settings = {"pruner": {"sparsity": number / 2}}
        run(tmp_path, f"s{number}", name="short", config=settings, rows=[row(0)])
    keys = [f"train.some_long_key_{number}" for number in range(4)]
    for key in keys:  # each run sets one of them, the others are as they were
        config = {"train": {k.partition(".")[2]: 123456 if k == key else 0 for k in keys}}
        command = f"lth-run name=long {key}=123456"
        run(tmp_path, key[-1], name="long", config=config, rows=[row(0)], command=command)
    for number in range(2):
        config = {"train": dict.fromkeys(("some_long_key_0", "some_long_key_1"), 123456 + number)}
        command = " ".join(f"{key}={123456 + number}" for key in keys[:2])
        run(tmp_path, f"w{number}", name="wide", config=config, rows=[row(0)],
            command=f"lth-run name=wide {command}")  # fmt: skip
    lines = drawing.listing(read_points(tmp_path, NOW)).splitlines()[:8]
    results = {line.split()[1].split("/")[0]: line.index("sparsity 0") for line in lines}
    assert results["long"] == results["short"] < results["wide"]
    assert [line.split()[2] for line in lines[:4]] == [f"{key}=123456" for key in keys]
    assert lines[5].split()[2] == "seed=s1"
    assert max(map(len, lines[:6])) < 80
    # without a command all keys name it, and what stands below widens no line
    (tmp_path / "long" / "3" / "status.json").write_text("{}")
    lines = drawing.listing(read_points(tmp_path, NOW)).splitlines()
    assert all(f"{key}=0" in lines[0] for key in keys[:3])
    assert max(map(len, lines[2:7])) < 80


@pytest.mark.slow
def test_300_runs_are_listed_a_line_each(tmp_path: Path) -> None:
    config = {f"part{n}": {f"key{k}": k for k in range(10)} for n in range(15)}
    rows = [row(n, arm, s) for n in range(10) for s in range(3) for arm in ("reinit", "ticket")]
    for number in range(300):
        mine = {**config, "seed": number, "control": {"reinit": {"_target_": "x"}}}
        run(tmp_path, f"{number:03}", config=mine, rows=rows)
    text = drawing.listing(read_points(tmp_path, NOW))
    assert len(text.splitlines()) == 302


@pytest.mark.parametrize("where", ["", "absent", "file"])
def test_a_folder_without_runs_is_one_clear_message(
    tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert command.main([str(tmp_path / where)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"lth-status: {tmp_path / where} ")
    assert "paths.outputs" in line


@pytest.mark.parametrize(
    "options",
    [["--launch"], ["--yes"], ["--keep", "last"], ["--watch", "0"], ["--watch", "--store"], []],
)
def test_a_mistaken_command_exits_with_2(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        command.main([*([str(tmp_path)] if options else []), *options])
    assert end.value.code == 2
    assert "lth-status: error:" in capsys.readouterr().err


def test_it_loads_neither_torch_nor_hydra(tmp_path: Path) -> None:
    run(tmp_path, "0")
    code = (
        "import sys; from lth_runner.cli.status import main; main(sys.argv[1:]); "
        "print({'torch', 'numpy', 'hydra', 'omegaconf', 'safetensors'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "set()"


# ---- watching


def test_watching_off_a_terminal_prints_once(tmp_path: Path) -> None:
    run(tmp_path, "0")
    done = subprocess.run(
        [*PROGRAM, str(tmp_path), "--watch"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert done.stdout.count("1 point: 1 done") == 1


def test_watching_a_terminal_draws_anew_and_gives_it_back_on_ctrl_c(tmp_path: Path) -> None:
    folder = run(tmp_path, "0", "interrupted")
    arguments = [*PROGRAM[1:], str(tmp_path), "--watch", "0.1"]
    child = pexpect.spawn(
        PROGRAM[0],
        arguments,
        timeout=60,
        dimensions=(10, 60),
        encoding="utf-8",
        # tests run in the background of a shell hand down an ignored Ctrl-C
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    child.expect_exact("\x1b[?25l")
    child.expect_exact("1 interrupted")
    status = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps(status | {"state": "failed", "error": "oh no"}))
    child.expect_exact("\x1b[H\x1b[J")
    child.expect("failed .*oh no")
    child.sendintr()
    child.expect_exact("\x1b[?25h")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1


# ---- starting again


@pytest.mark.parametrize("refused", [[], ["--refused"]])
def test_retry_prints_the_commands_that_did_not_end_well_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: list[str]
) -> None:
    every_state(tmp_path)
    run(tmp_path, "7", "failed", error="x", command="lth-run 'model.widths=[8,8]'")
    assert command.main([str(tmp_path), "--retry", *refused]) == 0
    said = capsys.readouterr()
    assert sorted(said.out.splitlines()) == sorted(
        [f"lth-run name=digits seed={n}" for n in (2, 3, 4, *([8] if refused else []))]
        + ["lth-run 'model.widths=[8,8]'", "lth-run seed=6"]
    )
    assert ("left out: 1 that can only be refused again" in said.err) != bool(refused)


def test_retry_prints_the_torchrun_of_what_several_ranks_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = {"error": "rank 1 is gone", "command": "lth-run train.engine=distributed 'name=a b'"}
    for number, machines in enumerate((1, 2)):
        engine = {"engine": "distributed-4", "reason": f"asked for; 4 ranks, machines: {machines}"}
        run(tmp_path, str(number), "failed", engine=engine, **lost)
    run(tmp_path, "2", "failed", **lost)
    assert command.main([str(tmp_path), "--retry"]) == 0
    said = capsys.readouterr()
    [line] = said.out.splitlines()
    words = "-m lth_runner train.engine=distributed 'name=a b'"
    assert line == f"torchrun --standalone --nproc-per-node 4 {words}"
    assert said.err.count("start it by torchrun as before") == 2


def test_a_silent_point_whose_process_exists_is_not_started_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = {"host": socket.gethostname(), "pid": os.getpid()}
    run(tmp_path, "0", "running", updated=ago(4000), **here)
    assert command.main([str(tmp_path), "--retry"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert f"process {os.getpid()} exists" in said.err


def test_launch_runs_all_and_says_which_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # in the place of `python -m lth_runner`: it exits with the status that its argument names
    package = tmp_path / "lth_runner"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        "import sys\nprint('ran', sys.argv[1])\nsys.exit(int(sys.argv[1].split('=')[1]))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    outputs = tmp_path / "outputs"
    for code in (3, 0):
        run(outputs, str(code), "failed", error="x", command=f"lth-run seed={code}")
    assert command.main([str(outputs), "--retry", "--launch"]) == 1
    out = capfd.readouterr().out
    assert ("ran seed=3" in out, "ran seed=0" in out) == (True, True)
    assert "1 of 2 ended well\nexit status 3: lth-run seed=3\n" in out


def test_launch_starts_nothing_but_lth_run(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    with pytest.raises(UserError, match="only lth-run"):
        retry.launch([f"touch {shlex.quote(str(mark))}"])
    assert not mark.exists()


def test_launch_refuses_where_commands_would_write_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = tmp_path / "outputs"
    run(outputs, "0", "failed", error="x", config={"paths": {"outputs": "outputs"}})
    monkeypatch.chdir(tmp_path)
    retry.check_folder(read_points(outputs, NOW), outputs)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert command.main([str(outputs), "--retry", "--launch"]) == 2
    assert "first started in" in capsys.readouterr().err


# ---- the Store


def touch(path: Path, *, age: float = 100 * DAY, size: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    aged(path, age)
    aged(path.parent, age)
    return path


ENDS = ("training.json", "end.safetensors")
OLD_DRAFT = "drafts/old/checkpoint.safetensors"


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """One finished run of three rounds, and a Store with some of everything."""
    store = tmp_path / "store"
    touch(store / "format.json").write_text(json.dumps({"format": 1, "seal": "s"}))
    run(tmp_path, "0", rows=[row(0), row(1), row(1, "reinit"), row(2), row(2, "reinit")])
    for key in ("ticket00", "ticket10", "reinit10", "ticket20", "reinit20", "unnamed"):
        for name in ENDS:
            touch(store / "entries" / key / name)
    touch(store / "entries" / "ticket00" / "step-00000100.safetensors", size=1000)
    touch(store / "entries" / "ticket00" / "derived-early.safetensors", size=500)
    touch(store / "entries" / "unnamed" / "step-00000100.safetensors")
    touch(store / OLD_DRAFT)
    touch(store / "drafts" / "fresh" / "checkpoint.safetensors", age=DAY / 2)
    touch(store / "damaged" / "entries-x-1" / "end.safetensors")
    return tmp_path


def stored(outputs: Path) -> set[str]:
    store = outputs / "store"
    return {str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()}


def pruned(outputs: Path, keep: str = "") -> set[str]:
    """What a prune takes, as found by looking before and after."""
    before = stored(outputs)
    found = survey(outputs, read_points(outputs, NOW), NOW)
    going = found.going(keep)
    remove(found, going)
    taken = before - stored(outputs)
    assert taken == {str(item.path.relative_to(outputs / "store")) for item in going}
    assert stored(outputs) == before - taken
    return taken


ALWAYS = {
    OLD_DRAFT,
    "damaged/entries-x-1/end.safetensors",
    *(f"entries/unnamed/{name}" for name in (*ENDS, "step-00000100.safetensors")),
}
SPARE = {f"entries/ticket00/{n}.safetensors" for n in ("step-00000100", "derived-early")}
EARLIER = {f"entries/{key}/{name}" for key in ("ticket00", "ticket10", "reinit10") for name in ENDS}


@pytest.mark.parametrize(
    ("keep", "taken"),
    [("", ALWAYS), ("tickets", ALWAYS | SPARE), ("last", ALWAYS | SPARE | EARLIER)],
)
def test_a_prune_takes_exactly_what_its_level_says(
    outputs: Path, keep: str, taken: set[str]
) -> None:
    assert pruned(outputs, keep) == taken
    assert pruned(outputs, keep) == set()
    assert not (outputs / "store" / "entries" / "unnamed").exists()
    assert not (outputs / "store" / "drafts" / "old").exists()


def unfinished_sweep(outputs: Path) -> None:
    sweep(outputs, [{"command": "lth-run seed=9", "name": None, "run_id": None}], pid=gone())


@pytest.mark.parametrize(
    "leave",
    [
        lambda outputs: run(outputs, "1", "running"),
        lambda outputs: run(outputs, "1", "interrupted"),
        lambda outputs: run(outputs, "1", "failed", error="OSError: no space left"),
        lambda outputs: run(outputs, "1", "running", updated=ago(99999)),
        lambda outputs: (run(outputs, "1") / "status.json").unlink(),
        unfinished_sweep,
        lambda outputs: touch(outputs / "store" / "drafts" / "old" / "lock", age=590),
        lambda outputs: touch(outputs / "store" / "leases" / "key", age=590),
    ],
    ids=["running", "interrupted", "failed", "dead", "unknown", "missing", "lock", "lease"],
)
def test_while_a_run_is_unfinished_only_damaged_files_go(
    outputs: Path, leave: Callable[[Path], object]
) -> None:
    leave(outputs)
    assert pruned(outputs, "last") == {"damaged/entries-x-1/end.safetensors"}


def test_a_refused_run_keeps_nothing_from_going(outputs: Path) -> None:
    run(outputs, "1", "failed", error="UserError: no such key")
    assert "entries/unnamed/end.safetensors" in pruned(outputs)


def test_a_lock_that_went_cold_protects_nothing(outputs: Path) -> None:
    touch(outputs / "store" / "drafts" / "old" / "lock", age=100 * DAY)
    assert pruned(outputs) == ALWAYS | {"drafts/old/lock"}


def test_a_training_named_in_any_rounds_file_stays_torn_or_deep(outputs: Path) -> None:
    deep = outputs / "a" / "b" / "c" / "d" / "e" / "f"
    deep.mkdir(parents=True)
    (deep / "rounds.jsonl").write_text('{"round": 0, "training_key": "unnamed", "se')
    assert pruned(outputs) == {path for path in ALWAYS if "unnamed" not in path}


def test_a_training_that_is_the_last_of_one_run_stays_though_another_went_on(
    outputs: Path,
) -> None:
    run(outputs, "1", rows=[row(0), row(1)])
    kept = {f"entries/ticket10/{name}" for name in ENDS}
    assert pruned(outputs, "last") == (ALWAYS | SPARE | EARLIER) - kept


PLANTED = ("damaged", "drafts", "entries", "damaged/x", "drafts/x", "entries/x", "leases")


@pytest.mark.parametrize("keep", ["", "last"])
@pytest.mark.parametrize("where", PLANTED)
def test_a_prune_follows_no_link(outputs: Path, tmp_path_factory, where: str, keep: str) -> None:
    outside = tmp_path_factory.mktemp("outside")
    for name in ENDS:
        touch(outside / name)
        touch(outside / "inner" / name)
    planted = outputs / "store" / where
    if planted.exists():
        shutil.rmtree(planted)
    planted.parent.mkdir(exist_ok=True)
    planted.symlink_to(outside)
    aged(outside, 100 * DAY)
    found = survey(outputs, read_points(outputs, NOW), NOW)
    with contextlib.suppress(UserError):  # that a folder has become a link is told
        remove(found, found.going(keep))
    assert len([path for path in outside.rglob("*") if path.is_file()]) == 4
    assert planted.is_symlink()


@pytest.mark.parametrize("folder", ["damaged/entries-x-1", "drafts/old", "entries/unnamed"])
def test_a_link_goes_with_its_folder_and_what_it_leads_to_stays(
    outputs: Path, tmp_path_factory, folder: str
) -> None:
    outside = touch(tmp_path_factory.mktemp("outside") / "precious")
    (outputs / "store" / folder / "link").symlink_to(outside)
    (outputs / "store" / folder / "linked").symlink_to(outside.parent)
    aged(outputs / "store" / folder, 100 * DAY)
    found = survey(outputs, read_points(outputs, NOW), NOW)
    remove(found, found.going("last"))
    assert outside.exists()
    assert [path for path in (outputs / "store" / folder).glob("*") if path.is_file()] in (
        [], [outputs / "store" / folder / "link"],
    )  # fmt: skip


def test_a_link_planted_between_the_look_and_the_removal_is_not_followed(
    outputs: Path, tmp_path_factory
) -> None:
    outside = touch(tmp_path_factory.mktemp("outside") / "end.safetensors").parent
    found = survey(outputs, read_points(outputs, NOW), NOW)
    place = outputs / "store" / "damaged" / "entries-x-1"
    shutil.rmtree(place)
    place.symlink_to(outside)
    with pytest.raises(UserError, match="cannot be pruned"):
        remove(found, found.going(""))
    assert (outside / "end.safetensors").exists()


@pytest.mark.parametrize("lost", ["rounds.jsonl", ".", "elsewhere"])
def test_while_the_rows_of_a_run_cannot_be_read_no_training_goes(
    outputs: Path, tmp_path_factory, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = run(outputs, "hidden", rows=[row(0)])
    if lost == "rounds.jsonl":
        (hidden / lost).unlink()
        (hidden / lost).symlink_to("rounds.jsonl")  # around in a circle: nobody can read it
    elif lost == ".":
        real = os.scandir

        def refuse(path: Any) -> Any:
            if Path(os.fspath(path)) == hidden:
                raise PermissionError(13, "Permission denied", str(path))
            return real(path)

        monkeypatch.setattr(os, "scandir", refuse)
    else:  # on another disk, behind a link
        moved = tmp_path_factory.mktemp("disk") / "run"
        one = row(0) | {"training_key": "unnamed"}
        (hidden / "rounds.jsonl").write_text(json.dumps(one) + "\n")
        shutil.move(hidden, moved)
        hidden.symlink_to(moved)
    found = survey(outputs, read_points(outputs, NOW), NOW)
    taken = {str(item.path.relative_to(outputs / "store")) for item in found.going("last")}
    assert not {f"entries/unnamed/{name}" for name in ENDS} & taken
    if lost != "elsewhere":
        assert "cannot be read" in str(found.stays)
        assert taken == {"damaged/entries-x-1/end.safetensors"}


def test_prune_says_what_and_how_much_and_removes_only_with_yes(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = stored(outputs)
    assert command.main([str(outputs), "--prune", "--keep", "tickets"]) == 0
    out = capsys.readouterr().out
    sums = [line.split() for line in out.splitlines() if line.startswith("in all")]
    assert sums == [["in", "all", "7", "1.6", "kB"]]  # 5 of 10 bytes, 1000 and 500: 1.55
    assert "add --yes" in out
    assert stored(outputs) == before
    assert command.main([str(outputs), "--prune", "--keep", "tickets", "--yes"]) == 0
    assert "add --yes" not in capsys.readouterr().out
    assert stored(outputs) == before - ALWAYS - SPARE


def test_the_store_is_summed_up_by_kind_with_what_could_go(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([str(outputs), "--store"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][-2:] == ["6", "trainings"]
    assert [line[:4] for line in lines[3:9]] == [
        ["ends", "12", "120", "B"],
        ["snapshots", "2", "1.0", "kB"],
        ["derived", "1", "500", "B"],
        ["drafts", "2", "20", "B"],
        ["damaged", "1", "10", "B"],
        ["other", "1", "26", "B"],
    ]
    ways = {" ".join(line[-2:]) for line in lines[12:]}
    assert ways == {"B --prune", "--keep tickets", "--keep last"}


@pytest.mark.parametrize("content", [None, "{}", '{"format": 99}'])
def test_what_is_no_store_of_this_version_is_left_alone(
    outputs: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    path = outputs / "store" / "format.json"
    path.unlink() if content is None else path.write_text(content)
    before = stored(outputs)
    assert command.main([str(outputs), "--prune", "--yes"]) == 2
    assert str(outputs / "store") in capsys.readouterr().err
    assert stored(outputs) == before


def test_amounts_as_people_write_them() -> None:
    assert [size(n) for n in (0, 999, 1000, 1.25e9)] == ["0 B", "999 B", "1.0 kB", "1.2 GB"]
    assert [size(n) for n in (999.6, 999_949, 999_960)] == ["1.0 kB", "999.9 kB", "1.0 MB"]
    seconds = (5, 59.6, 100, 3600, 3 * 3600 + 125, 100000)
    expected = ["5 s", "60 s", "2 min", "1 h 0 min", "3 h 2 min", "1 d 3 h"]
    assert [duration(n) for n in seconds] == expected


@pytest.mark.parametrize(
    ("error", "rows", "state"),
    [
        ("UserError: no such key", [], "refused"),
        ("UserError: report.html cannot be written", [row(0)], "failed"),
        ("RuntimeError: a bug", [], "failed"),
    ],
)
def test_a_run_is_refused_when_its_command_is_a_mistake_and_nothing_was_trained(
    tmp_path: Path, error: str, rows: list[dict[str, Any]], state: str
) -> None:
    run(tmp_path, "0", "failed", error=error, rows=rows)
    assert only(tmp_path).state == state


@pytest.mark.parametrize(
    ("exit_status", "state"), [(2, "refused"), (1, "failed"), (None, "failed")]
)
def test_a_point_that_ended_before_it_had_a_folder_says_its_first_error_line(
    tmp_path: Path, exit_status: int | None, state: str
) -> None:
    folder = tmp_path / "sweeps" / "2026-11-20_10-00-00"
    folder.mkdir(parents=True)
    good, bad = "lth-run seed=0", "lth-run seed=1 train.batch_size=9999"
    points = "".join(json.dumps({"command": c, "name": None}) + "\n" for c in (good, bad))
    (folder / "points.jsonl").write_text(points)
    first = {"command": bad, "error": "an earlier try", "status": 1}
    refusal = {"command": bad, "error": "batch size 9999 does not fit\nmore"}
    refusal |= {"status": exit_status} if exit_status else {}
    text = "".join(json.dumps(line) + "\n" for line in (first, refusal))
    (folder / "failures.jsonl").write_text(text)
    said = {point.command: point for point in read_points(tmp_path, NOW)}
    assert (said[bad].state, said[bad].reason) == (state, "batch size 9999 does not fit")
    assert said[good].state == "missing"
    assert command.main([str(tmp_path)]) == 1
