"""What every training made of each test sample: kept in the Store and in the run folder."""

from __future__ import annotations

import base64
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import small
from command import SMALL, folders, lth_run, no_training, rows
from lth_runner.problem.objective import CrossEntropy
from lth_runner.problem.outcomes import Outcomes, measure, sampled_unit
from lth_runner.runs.folder import read_status, write_status
from lth_runner.runs.samples import KeptSamples, samples_row
from lth_runner.search.final_outcomes import final_outcomes
from lth_runner.training.engines.packed import Packed, Sparse
from lth_runner.training.engines.sequential import Sequential
from lth_runner.values.errors import UserError

COMMAND = (*SMALL, "replicates=2", "probe=default")


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("outputs")
    assert lth_run(*COMMAND, f"paths.outputs={path}").status == 0
    return path


def test_every_training_keeps_a_bit_for_each_test_image_which_make_up_its_accuracy(outputs):
    (folder,) = folders(outputs)
    kept, found = KeptSamples((folder,)), rows(folder / "rounds.jsonl")
    assert len(found) == len(rows(folder / "samples.jsonl")) == 10
    for row, sampled in zip(found, rows(folder / "samples.jsonl"), strict=True):
        assert {key: sampled[key] for key in ("round", "arm", "seed", "training_key")} == {
            key: row[key] for key in ("round", "arm", "seed", "training_key")
        }
        values = kept.of(row["training_key"])
        assert values.mean() == pytest.approx(row["test_accuracy"], abs=1e-6)
        assert set(values) <= {0, 1}
        assert len(base64.b64decode(sampled["bits"])) == -(-60 // 8)
        file = outputs / "store" / "entries" / row["training_key"] / "derived-tested.safetensors"
        assert file.exists()
    assert kept.of("another") is None


@pytest.mark.slow
def test_an_older_store_and_a_damaged_file_are_filled_in_without_a_training(outputs, tmp_path):
    copy = Path(shutil.copytree(outputs, tmp_path / "copy"))
    (folder,), (whole,) = folders(copy), folders(outputs)
    shutil.rmtree(folder)
    first, second, *rest = sorted((copy / "store" / "entries").glob("*/derived-tested.*"))
    first.write_bytes(first.read_bytes()[:-3])  # torn
    second.write_bytes(b"\0" + second.read_bytes()[1:])
    for file in rest:
        file.unlink()
    with no_training():
        assert lth_run(*COMMAND, f"paths.outputs={copy}").status == 0
    assert (folder / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()
    assert len(list((copy / "store" / "damaged").iterdir())) == 2


@pytest.mark.slow
def test_a_run_begun_by_a_version_that_kept_none_gets_them_when_it_goes_on(outputs, tmp_path):
    copy = Path(shutil.copytree(outputs, tmp_path / "copy"))
    (folder,), (whole,) = folders(copy), folders(outputs)
    status = read_status(folder)
    del status["files"]["samples.jsonl"]
    (folder / "samples.jsonl").unlink()
    write_status(folder, status)
    with no_training():  # finished: left as it is
        assert lth_run(*COMMAND, f"paths.outputs={copy}").status == 0
    assert not (folder / "samples.jsonl").exists()
    write_status(folder, status | {"state": "running"})
    with no_training():
        assert lth_run(*COMMAND, f"paths.outputs={copy}").status == 0
    assert (folder / "samples.jsonl").read_bytes() == (whole / "samples.jsonl").read_bytes()


@pytest.mark.parametrize("engine", [Sequential(), Packed(), Sparse()], ids=lambda one: one.name)
def test_outcomes_are_of_the_stored_weights_whatever_trained_them(engine, tmp_path):
    trainer = small.trainer(tmp_path, engine=engine)
    jobs = [small.dense_job(small.task(seed=seed)) for seed in (0, 1)]
    for job, trained in zip(jobs, trainer.fit(jobs), strict=True):
        outcomes = final_outcomes(job.task, trained)
        figures = job.task.evaluate(trained.weights, "test")
        assert outcomes.figures(job.task.objective) == figures
        assert outcomes.by_sample.double().mean().item() == pytest.approx(figures["accuracy"])
        again = measure(job.task, trained.weights, "test", size=7)
        assert torch.equal(outcomes.by_sample, again.by_sample)


@dataclass(frozen=True)
class Plain:
    """An objective of a user's own, without what a sample adds."""

    inner: CrossEntropy

    def totals(self, outputs: Any, targets: Any) -> Any:
        return self.inner.totals(outputs, targets)

    def values(self, totals: Any) -> Any:
        return self.inner.values(totals)


def test_an_objective_that_says_nothing_of_its_samples_keeps_none(tmp_path):
    task = small.task()
    plain = replace(task, objective=Plain(CrossEntropy()))  # type: ignore[arg-type]
    found = measure(plain, task.init(), "test")
    assert found.by_sample is None
    assert found.figures(task.objective) == task.evaluate(task.init(), "test")
    row = samples_row({"training_key": "k"}, Outcomes.unpacked(found.packed()).packed())
    assert row == {"training_key": "k", "num_samples": 0}


@pytest.mark.parametrize("values", [torch.tensor([True, False] * 9), torch.randn(5)])
def test_rows_are_read_back_as_they_were_written_and_others_refused(values, tmp_path):
    packed = Outcomes(torch.zeros(3).double(), values).packed()
    row = samples_row({"training_key": "k"}, packed)
    file = tmp_path / "samples.jsonl"

    def write(row: dict[str, Any]) -> KeptSamples:
        file.write_text(f"{row}\n".replace("'", '"'))
        return KeptSamples((tmp_path,))

    np.testing.assert_array_equal(write(row).of("k"), values.double().numpy())
    for change in ({"num_samples": 99}, {"bits": "!", "values": "!"}):
        with pytest.raises(UserError, match=r"samples\.jsonl, line 1 is no row of samples"):
            write(row | change).of("k")


@pytest.mark.parametrize(
    ("inputs", "targets", "unit"),
    [
        (torch.zeros(1, 1, 8, 8), torch.zeros(1).long(), "images"),
        (torch.zeros(1, 9), torch.zeros(1, 1), "samples"),
        (torch.zeros(1, 9).long(), torch.zeros(1, 9).long(), "sequences"),
        ({"tokens": torch.zeros(1, 9).long()}, torch.zeros(1).long(), "sentences"),
    ],
)
def test_the_sampled_unit_is_what_one_sample_is(inputs, targets, unit):
    data = SimpleNamespace(sample=lambda num, seed: (inputs, targets))
    assert sampled_unit(SimpleNamespace(data=data)) == unit  # type: ignore[arg-type]
