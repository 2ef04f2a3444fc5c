"""Whoever interrupts `lth-run`, or stops reading what it prints, is told so on stderr."""

from __future__ import annotations

import errno
from unittest import mock

from command import SMALL, lth_run


def test_an_interruption_before_the_run_begins_is_told() -> None:
    with mock.patch("hydra.main", side_effect=KeyboardInterrupt):
        said = lth_run(*SMALL)
    assert (said.status, said.out) == (130, "")
    assert said.err == "interrupted before the run began: nothing was changed\n"


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
