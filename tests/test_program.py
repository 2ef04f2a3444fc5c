"""The programs that read run folders end in one message, whatever meets them."""

from __future__ import annotations

import errno
import os
import signal

import pytest

from lth_runner.cli import diff, export, merge, program, report, status

TOO_LONG = "x" * 300
PROGRAMS = {
    "lth-diff": (diff.main, [TOO_LONG, TOO_LONG]),
    "lth-export": (export.main, [TOO_LONG, "--report", "report.json"]),
    "lth-report": (report.main, [TOO_LONG]),
    "lth-status": (status.main, [TOO_LONG]),
    "lth-merge": (merge.main, [TOO_LONG, TOO_LONG]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_path_that_no_system_can_have_is_a_mistake(name, capsys):
    main, words = PROGRAMS[name]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"{name}: {TOO_LONG}")
    assert os.strerror(errno.ENAMETOOLONG) in told


def test_a_long_key_in_the_place_of_a_path_is_told_as_a_key(capsys):
    assert report.main([f"report.samples={TOO_LONG}"]) == 2
    assert "is a key of a config, and no path" in capsys.readouterr().err


def test_ctrl_c_ends_a_program_in_one_line(capsys):
    assert program.exit_status("lth-any", lambda: signal.raise_signal(signal.SIGINT)) == 130
    assert capsys.readouterr().err == "lth-any: interrupted\n"


def test_memory_that_is_not_there_is_told_and_a_bug_is_none_of_it(capsys):
    def too_large():
        raise RuntimeError("can't allocate memory: you tried to allocate 4000000000 bytes.")

    assert program.exit_status("lth-any", too_large) == 2
    assert capsys.readouterr().err.startswith("lth-any: out of memory")
    with pytest.raises(ZeroDivisionError):
        program.exit_status("lth-any", lambda: 1 // 0)


def test_a_full_disk_that_is_printed_to_is_told_and_shown_in_full_where_asked_for(
    capsys, monkeypatch
):
    def full():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert program.exit_status("lth-any", full) == 2
    assert capsys.readouterr().err == f"lth-any: {os.strerror(errno.ENOSPC)}\n"
    monkeypatch.setenv("LTH_TRACEBACK", "1")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        program.exit_status("lth-any", full)
