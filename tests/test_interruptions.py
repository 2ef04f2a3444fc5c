"""Whoever interrupts `lth-run`, or stops reading what it prints, is told so on stderr."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import pytest

from command import SMALL, environ, lth_run
from lth_runner.cli.stopping import interruption_told, nobody_reads


def test_an_interruption_before_the_run_begins_is_told() -> None:
    with mock.patch("hydra.main", side_effect=KeyboardInterrupt):
        said = lth_run(*SMALL)
    assert (said.status, said.out) == (130, "")
    assert said.err == "interrupted before the run began: nothing was changed\n"


def test_a_process_that_is_interrupted_while_it_loads_says_so_in_one_line(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "lth_runner", *SMALL]
    process = subprocess.Popen(
        words,
        cwd=tmp_path,
        env=environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    maps = Path(f"/proc/{process.pid}/maps")
    while process.poll() is None and "libtorch" not in maps.read_text():
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=300)
    # Python ends by the signal where C code had been at work; a shell calls both 130
    assert process.returncode in (130, -signal.SIGINT), err
    assert out == ""
    assert err == "interrupted before the run began: nothing was changed\n"
    assert not list(tmp_path.iterdir())


def test_an_error_that_an_interruption_came_out_as_is_told_as_one() -> None:
    def half_loaded() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise AttributeError("a module that is half there") from None

    with pytest.raises(KeyboardInterrupt), interruption_told():
        half_loaded()
    with pytest.raises(AttributeError), interruption_told():
        raise AttributeError("of its own")
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


def test_an_interruption_of_a_run_is_told_once() -> None:
    with mock.patch("lth_runner.cli.launch.execute", side_effect=KeyboardInterrupt):
        said = lth_run(*SMALL)
    assert said.status == 130
    assert said.out.startswith("interrupted; continue with:\n  lth-run ")
    assert said.err == ""


def test_a_reader_that_has_gone_is_told_how_to_go_on() -> None:
    gone = BrokenPipeError(errno.EPIPE, "Broken pipe")
    with (
        mock.patch("hydra.main", side_effect=gone),
        mock.patch("lth_runner.cli.stopping.nobody_reads", return_value=True),
        mock.patch("lth_runner.cli.stopping.hush"),
    ):
        said = lth_run("seed=3", "model.widths=[8]")
    assert said.status == 130
    told = "interrupted: nobody reads on; continue with:\n  lth-run seed=3 'model.widths=[8]'\n"
    assert said.err == told


def test_without_an_output_a_broken_pipe_is_of_something_else(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert not nobody_reads(BrokenPipeError(errno.EPIPE, "Broken pipe"))


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_an_answer_that_nobody_reads_ends_without_a_traceback(word: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "lth_runner", word],
        env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    process.stdout.close()
    assert process.stderr
    assert process.stderr.read() == ""
    assert process.wait(timeout=60) == 0
