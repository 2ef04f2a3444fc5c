"""What a person sees: plain aligned lines in a log file, a live bar on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import struct
import termios
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from command import SMALL, folders, lth_run, rows
from forked import lth_run_forked
from lth_runner.runs.record import Console
from lth_runner.runs.record.record import Progress, RunDescription

TRAINING = re.compile(
    r"round \d/2  (ticket|reinit)  seed +\d+  (step 8/8|from the Store) +"
    r"loss +(\d+\.\d{4}|-)  val +(\d+\.\d\d|-) %  test +(\d+\.\d\d|-) %"
)


@pytest.mark.slow
def test_a_log_file_gets_a_plain_aligned_line_for_every_training(tmp_path: Path) -> None:
    command = (*SMALL, "replicates=2", "seed=9", f"paths.outputs={tmp_path}")
    said = lth_run(*command)
    assert said.err == ""
    assert not re.search("[\r\x1b\b]", said.out)
    head, *lines = said.out.split("\n\n")[0].splitlines()
    assert head == f"run      {folders(tmp_path)[0]}"
    assert len(lines) == len(rows(folders(tmp_path)[0] / "rounds.jsonl")) == 10
    again = lth_run(*command, "pruner.rate=0.5").out.split("\n\n")[0].splitlines()[1:]
    assert again[-1] == "steps    64 trained, 16 from the Store"
    lines += again[:-1]
    for line in lines:
        assert TRAINING.fullmatch(line), line
    for word in ("seed", "loss", "val", "test"):
        assert len({line.index(word) for line in lines}) == 1, lines


def test_a_terminal_gets_a_live_bar_and_an_unbroken_table(tmp_path: Path) -> None:
    master, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 40, 110, 0, 0))
    words = ("train.shrink_to=null", "train.length=1500it", "pruner.rounds=1")
    child = lth_run_forked(
        *SMALL, *words, f"paths.outputs={tmp_path}", logs=tmp_path, pictures=False,
        out=Path(os.ttyname(terminal)), TERM="xterm",
    )  # fmt: skip
    seen = b""
    while child.is_running or select.select([master], [], [], 0)[0]:
        if select.select([master], [], [], 0.05)[0]:
            seen += os.read(master, 1 << 16)
    shown = seen.decode()
    child.finish()
    for end in (master, terminal):
        os.close(end)
    frames = re.findall(r"\rround \d/1 (?:ticket|reinit) seed 0: +\d+%\|[^\r]*", shown)
    assert any(re.search(r"<\d\d:\d\d, .*step/s\]", frame) for frame in frames), shown
    last = shown.replace("\r\n", "\n").split("\r")[-1]  # after the bar has been wiped out
    assert last.startswith(("\n", "small", "steps")), shown
    assert re.search(r"\nround  sparsity  ticket  reinit .*\n-----  --------  ------", last)
    for line in shown.replace("\r\n", "\n").split("\n"):
        shows_end = [part for part in line.split("\r") if "step 1500/1500" in part]
        assert all(part.startswith("round ") and part.endswith("%") for part in shows_end)


class Bar:
    """A tqdm that only counts."""

    def __init__(self, total: int, initial: int, **_: Any) -> None:
        self.total, self.n = total, initial

    def update(self, steps: int) -> None:
        assert steps >= 0
        self.n += steps

    def set_description(self, text: str, **_: Any) -> None: ...
    def close(self) -> None: ...

    @staticmethod
    def write(line: str, file: Any) -> None:
        print(line, file=file)


def opened(folder: Path, *, replicates: int = 1, **more: Any) -> Console:
    config = {"seed": 0, "replicates": replicates, "control": {"reinit": {}}}
    run = RunDescription(
        "small", "0", folder, config, {}, "lth-run", "p", 2,
        num_trainings=3 * replicates, num_steps=300 * replicates, **more,
    )  # fmt: skip
    console = Console()
    console.open(run)
    return console


def row(number: int, *, arm: str = "ticket", seed: int = 0, diverged: bool = False) -> Any:
    return {"round": number, "arm": arm, "seed": seed, "steps": 100, "diverged": diverged,
            "reused": False, "test_accuracy": 0.5, "val_accuracy": 0.25}  # fmt: skip


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lth_runner.runs.record.console.tqdm", Bar)


@pytest.mark.usefixtures("counting")
def test_the_bar_counts_every_step_once_trained_stored_or_recorded_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rounds.jsonl").write_text(f"{json.dumps(row(0))}\n")
    console = opened(tmp_path, replicates=2)
    bar: Any = console._bar
    assert (bar.n, bar.total) == (100, 600)
    for step in (40, 70):  # two trainings under way at once, one continued at step 40
        for seed in (0, 1):
            console.progress(Progress(1, "ticket", seed, step, 0, 100, None))
    assert bar.n == 240
    console.round(row(1, seed=0, diverged=True), mock.Mock())
    console.progress(Progress(1, "ticket", 1, 100, 0, 100, {"test_accuracy": 0.5}))
    console.round(row(1, seed=1), mock.Mock())
    assert bar.n == 300
    console.round(row(1, arm="reinit", seed=0), mock.Mock())
    console.round(row(1, arm="reinit", seed=1), mock.Mock())
    assert bar.n == 500
    console.progress(Progress(1, "ticket/random_data", 0, 100, 0, 100, None))  # has no row
    assert bar.n == 600
    console.close("done", None)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "from the Store" in line] == [
        "round 1/1  reinit  seed 0  from the Store  loss       -  val  25.00 %  test  50.00 %",
        "round 1/1  reinit  seed 1  from the Store  loss       -  val  25.00 %  test  50.00 %",
        "steps    270 trained, 200 from the Store",
    ]
    assert "round 1/1  ticket  seed 0  DIVERGED: " in "\n".join(said)


@pytest.mark.usefixtures("counting")
def test_a_line_shows_the_headline_of_the_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = opened(tmp_path, problem={"measures": [{"name": "perplexity", "better": "lower"}]})
    figures = {"train_loss": 2.5, "val_perplexity": 148.2, "test_perplexity": 12.34}
    console.progress(Progress(1, "ticket", 0, 100, 0, 100, figures | {"test_accuracy": 0.5}))
    console.progress(Progress(1, "ticket", 0, 100, 0, 100, {"train_loss": 2.5}))
    assert capsys.readouterr().out.splitlines()[1:] == [
        "measure  perplexity on the validation and the test split; lower is better",
        "round 1/1  ticket  seed 0  step 100/100    loss  2.5000  val    148  test   12.3",
        "round 1/1  ticket  seed 0  step 100/100    loss  2.5000  val      -  test      -",
    ]


@pytest.mark.usefixtures("counting")
def test_a_training_beside_the_arms_is_aligned_with_those_after_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = opened(tmp_path)
    for arm in ("ticket/random_data", "reinit", "ticket"):
        console.progress(Progress(1, arm, 0, 100, 0, 100, {"test_accuracy": 0.5}))
    console.round(row(1, arm="reinit", diverged=True), mock.Mock())
    lines = capsys.readouterr().out.splitlines()[1:]
    assert {line.index("seed 0") for line in lines} == {len("round 1/1  ticket/random_data  ")}
    assert len(lines) == 4


@pytest.mark.usefixtures("counting")
def test_a_long_training_says_a_line_at_most_every_ten_seconds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("lth_runner.runs.record.console.time.monotonic", lambda: now[0])
    console = opened(tmp_path)
    for step in range(1, 101):  # three seconds between evaluations
        now[0] += 3.0
        console.progress(Progress(0, "ticket", 0, step, 0, 100, {"train_loss": 1.0}))
        console.progress(Progress(0, "ticket", 0, step, 0, 100, None))
    steps = [line.split("step ")[1][:7] for line in capsys.readouterr().out.splitlines()[1:]]
    assert steps == [f"{step:>3}/100" for step in [*range(4, 101, 4)]]
