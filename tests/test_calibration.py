"""Calibration errors, entropies and what they are drawn of, against figures made by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import small
from command import SMALL, folders, lth_run, rows
from lth_runner.probe import Calibration
from lth_runner.probe.calibration import auroc, entropies, reliability
from lth_runner.problem import Gaussian, SquaredError
from lth_runner.problem.data import Data
from lth_runner.values.errors import UserError

# five samples of two classes: confidence 0.9, 0.9, 0.6, 0.7, 0.7; right: yes, no, yes, yes, no
PROBABILITIES = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.4, 0.6], [0.7, 0.3], [0.3, 0.7]])
LABELS = torch.tensor([0, 0, 1, 0, 0])


def test_errors_by_sample_and_by_bin_are_those_of_a_vector_worked_out_by_hand() -> None:
    found = dict(reliability(PROBABILITIES.double().log(), LABELS, 4))
    # bins of a quarter: (0.5, 0.75] holds 0.6, 0.7, 0.7 with 2 of 3 right, (0.75, 1] 0.9, 0.9
    # with 1 of 2 right: |2/3 - 2/3| = 0 and |1/2 - 0.9| = 0.4
    assert found["expected_calibration_error"] == pytest.approx(2 / 5 * 0.4, abs=1e-6)
    assert found["mean_absolute_calibration_error"] == pytest.approx(0.4 / 2, abs=1e-6)
    assert found["reliability_by_bin"] == pytest.approx({"0.625": 2 / 3, "0.875": 1 / 2})
    sure = torch.tensor([[0.0, -math.inf]]).double()
    one = dict(reliability(sure, torch.tensor([0]), 20))
    assert one["expected_calibration_error"] == 0.0
    assert one["reliability_by_bin"] == {"0.975": 1.0}


def test_entropies_and_how_well_they_tell_two_kinds_of_data_apart() -> None:
    logs = torch.tensor([[0.5, 0.5], [1.0, 0.0]]).double().log()
    assert entropies(logs).tolist() == pytest.approx([math.log(2), 0.0])
    own, other = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 4.0])
    # 2 is above 1 of 3 and equal to 1, 4 above all 3
    assert auroc(own, other) == pytest.approx((1.5 + 3) / 6)


def trained(task):
    return SimpleNamespace(weights=task.init())


def test_a_probe_measures_what_the_network_answers_on_test_and_on_turned_images() -> None:
    for task in (small.task(), replace(small.task(), coordinates=Gaussian(initial_std=1.0))):
        weights, (inputs, labels) = task.init(), task.data.test
        found = dict(Calibration(quarter_turns=2)(task, [], trained(task)))
        logs = task.outputs(weights, inputs).double().log_softmax(1)
        assert found["negative_log_likelihood"] == pytest.approx(
            task.evaluate(weights, "test")["loss"], rel=1e-5
        )
        assert found["expected_calibration_error"] == pytest.approx(
            dict(reliability(logs, labels, 20))["expected_calibration_error"]
        )
        turned = task.outputs(weights, inputs.flip(2, 3)).double().log_softmax(1)
        assert found["entropy_other"] == pytest.approx(float(entropies(turned).mean()))
        assert found["auroc_other"] == pytest.approx(auroc(entropies(logs), entropies(turned)))


def test_other_data_are_named_and_must_have_the_networks_shape() -> None:
    task, far = small.task(), small.blobs()
    inputs, labels = far.test
    other = Data.from_tensors((inputs, labels), (inputs * 3 + 1, labels), validation=0)
    found = dict(Calibration(other=other)(task, [], trained(task)))
    logs = task.outputs(task.init(), inputs * 3 + 1).double().log_softmax(1)
    assert found["entropy_other"] == pytest.approx(float(entropies(logs).mean()))
    Calibration(other=other).check(task)
    wide = small.blobs(size=5)
    with pytest.raises(UserError, match=r"inputs of shape \(1, 5, 5\), and .* \(1, 4, 4\)"):
        Calibration(other=wide).check(task)


def test_what_classifies_no_samples_and_odd_numbers_are_refused() -> None:
    with pytest.raises(UserError, match="probabilities of classes, and SquaredError"):
        Calibration().check(replace(small.task(), objective=SquaredError()))
    with pytest.raises(UserError, match=r"probe.calibration.bins=0: give a whole number, 1 to"):
        Calibration(bins=0)
    with pytest.raises(UserError, match=r"probe.calibration.quarter_turns=4: give .* 1 to 3"):
        Calibration(quarter_turns=4)


def test_a_run_draws_a_reliability_diagram_and_takes_other_data_by_their_option(
    tmp_path: Path,
) -> None:
    words = [word for word in SMALL if not word.startswith("probe=")]
    other = ("+dataset@probe.calibration.other=synthetic", "probe.calibration.other.num_train=50",
             "probe.calibration.other.num_test=40")  # fmt: skip
    said = lth_run(*words, *other, "probe=calibration", "record=local",
                   f"paths.outputs={tmp_path}", pictures=True)  # fmt: skip
    assert said.status == 0, said.err
    [folder] = folders(tmp_path)
    found = rows(folder / "rounds.jsonl")
    assert all(0 <= row["auroc_other"] <= 1 for row in found)
    page = (folder / "report.html").read_text()
    assert "Reliability diagram" in page
    assert "calibrated" in page
