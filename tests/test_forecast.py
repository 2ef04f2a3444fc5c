"""A run says before it starts how long it will take on a CPU, where that is long."""

from __future__ import annotations

import logging
import os
import re
from unittest import mock

import pytest
import torch

import small
from command import SMALL, folders, lth_run
from lth_runner.cli.forecast import warn_if_slow
from lth_runner.experiment import Experiment
from lth_runner.masking import Static
from lth_runner.training.engines.packed import Sparse


def said(caplog, num_steps, length="40it"):
    experiment = Experiment([small.task(seed=n) for n in range(2)], small.imp(), Static(), {}, [])
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        warn_if_slow(experiment, small.recipe(length=length), Sparse(), num_steps)
    return caplog.text


def test_a_short_run_says_nothing(caplog):
    assert not said(caplog, 100)


def test_a_long_run_says_hours_steps_and_pace_and_what_to_do(caplog):
    told = said(caplog, 10**9)
    found = re.search(r"about (\S+) hours .* \((\d+) steps of (\S+) ms, fewer", told)
    assert found, told
    hours, steps, pace = map(float, found.groups())
    assert steps == 10**9
    assert abs(hours - steps * pace / 3.6e6) < 0.02 * hours
    assert "+scale=smoke" in told


def test_trainings_of_a_single_step_can_be_timed(caplog):
    assert "hours" in said(caplog, 10**9, length="1it")


@pytest.mark.parametrize(
    ("threads", "load", "is_told"), [(2, 1.0, True), (2, 0.2, False), (1, 9.0, False)]
)
def test_threads_that_other_work_leaves_no_core_for_are_told(
    caplog, monkeypatch, threads, load, is_told
):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert ("threads=1 may be much faster" in said(caplog, 10**9)) == is_told


def test_a_run_that_goes_on_forecasts_what_is_left_of_it(tmp_path):
    words = (*SMALL, "replicates=1", f"paths.outputs={tmp_path}")
    told = [_steps_told(words)]
    [folder] = folders(tmp_path)
    (folder / "status.json").unlink()
    told.append(_steps_told(words))  # all that it lacks lies in the Store
    assert told == [told[0], 0]
    assert told[0] > 0


def _steps_told(words):
    with mock.patch("lth_runner.cli.launch.warn_if_slow") as warned:
        assert lth_run(*words).status == 0
    return warned.call_args.args[-1]
