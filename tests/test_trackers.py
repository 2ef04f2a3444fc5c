"""Trackers read back by their own readers: whole, and no row twice after a run that was stopped."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from unittest import mock

import pytest

from command import SMALL, folders, lth_run, rows
from lth_runner.runs.record import MLflow, NeverFatal, RunDescription, TensorBoard

KEPT, CUT = "tracked", 2  # rows that an earlier attempt has left


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run that is done, and what a sink is told of it."""
    outputs = tmp_path_factory.mktemp(KEPT)
    lth_run(*SMALL, "record=local", f"paths.outputs={outputs}", "replicates=1")
    [folder] = folders(outputs)
    num = len(rows(folder / "rounds.jsonl"))
    config = {"seed": 0, "control": {"reinit": {}}, "model": {"widths": [8]}}
    return RunDescription("small", folder.name, folder, config, {}, "lth-run", "p", 3, num, 8 * num)


def tracked_twice(make, run, tmp_path, *, is_closed=False):
    """Has a run written by two attempts, of which the first was killed; returns its folder.

    ``is_closed``: its threads are stopped, as a kill stops them.
    """
    whole = {name: rows(run.folder / name) for name in ("metrics.jsonl", "rounds.jsonl")}
    folder = tmp_path / "outputs" / run.name / run.run_id
    folder.mkdir(parents=True)
    described = RunDescription(**{**vars(run), "folder": folder})
    first = make()
    first.open(described)
    for row in whole["rounds.jsonl"][:CUT]:
        first.metrics([m for m in whole["metrics.jsonl"] if same(m, row)])
        first.round(row, None)
    if is_closed:
        first.close("interrupted", None)
    for name, found in whole.items():  # one row less is on the disk than the tracker was sent
        kept = [
            one for one in found if any(same(one, row) for row in whole["rounds.jsonl"][: CUT - 1])
        ]
        (folder / name).write_text("".join(json.dumps(one) + "\n" for one in kept))
    second = make()
    second.open(described)
    for row in whole["rounds.jsonl"][CUT - 1 :]:
        second.metrics([m for m in whole["metrics.jsonl"] if same(m, row)])
        second.round(row, None)
    second.close("done", None)
    return folder


def same(row, other):
    return all(row[key] == other[key] for key in ("round", "arm", "seed"))


def of_ticket(run, name):
    return [row for row in rows(run.folder / name) if row["arm"] == "ticket"]


def test_tensorboard_reads_every_row_once(run, tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tracked_twice(TensorBoard, run, tmp_path) / "tensorboard"
    found = reader.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    told = [(one.step, one.value) for one in found.Scalars("rounds/ticket/seed-0/test_accuracy")]
    expected = of_ticket(run, "rounds.jsonl")
    assert told == [(row["round"], pytest.approx(row["test_accuracy"])) for row in expected]
    evaluations = found.Scalars("train/ticket/seed-0/test_loss")
    steps = [8 * row["round"] + row["step"] for row in of_ticket(run, "metrics.jsonl")]
    assert [one.step for one in evaluations] == steps


def test_mlflow_reads_every_row_once_in_one_run(run, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database needs more than the client
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = (tmp_path / "mlruns").as_uri()
    folder = tracked_twice(lambda: MLflow(uri), run, tmp_path)
    client = mlflow.MlflowClient(uri)
    [found] = client.search_runs([client.get_experiment_by_name("lth-runner").experiment_id])
    assert json.loads((folder / "mlflow.json").read_text())["run_id"] == found.info.run_id
    assert (found.info.status, found.data.params["model.widths"]) == ("FINISHED", "[8]")
    history = client.get_metric_history(found.info.run_id, "rounds/ticket/seed-0/test_accuracy")
    expected = of_ticket(run, "rounds.jsonl")
    assert [(m.step, m.value) for m in history] == [
        (row["round"], row["test_accuracy"]) for row in expected
    ]
    history = client.get_metric_history(found.info.run_id, "train/ticket/seed-0/test_loss")
    assert len(history) == len(of_ticket(run, "metrics.jsonl"))


def test_mlflows_files_lie_beside_its_database_where_there_is_no_server(run, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    client = mock.MagicMock(**{"get_experiment_by_name.return_value": None})
    client.create_run.return_value.info.run_id = "an id"
    monkeypatch.setattr(mlflow, "MlflowClient", lambda uri: client)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "with space" / "small" / "id"
    folder.mkdir(parents=True)
    MLflow().open(RunDescription(**{**vars(run), "folder": folder}))
    place = (tmp_path / "with space" / "mlflow_artifacts").as_uri()
    client.create_experiment.assert_called_once_with("lth-runner", place)


def test_mlflow_tells_a_runs_terminal_of_nothing_but_warnings(run, tmp_path, monkeypatch, caplog):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_LOGGING_LEVEL", raising=False)
    theirs = logging.getLogger("mlflow.store.db.utils")

    def begin(uri):
        theirs.info("Creating initial MLflow database tables...")
        theirs.warning("the disk is nearly full")
        raise OSError("no such server")

    monkeypatch.setattr(mlflow, "MlflowClient", begin)
    monkeypatch.setattr(logging.getLogger("mlflow"), "propagate", True)
    before = logging.getLogger("mlflow").level
    with caplog.at_level("DEBUG"), pytest.raises(OSError, match="no such server"):
        MLflow("http://localhost:1").open(RunDescription(**{**vars(run), "folder": tmp_path}))
    assert {*caplog.messages} == {"the disk is nearly full"}
    assert logging.getLogger("mlflow").level == before


def test_trackio_reads_every_row_once_in_one_run(run, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio")
    from lth_runner.runs.record import Trackio

    tracked_twice(Trackio, run, tmp_path, is_closed=True)
    [found] = list(trackio.Api().runs("lth-runner"))
    logs = trackio.SQLiteStorage.get_logs("lth-runner", found.name, run_id=found.id)
    name = "rounds/ticket/seed-0/test_accuracy"
    told = [(one["step"], one[name]) for one in logs if name in one]
    assert told == [(row["round"], row["test_accuracy"]) for row in of_ticket(run, "rounds.jsonl")]


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "trackio", "wandb"])
def test_what_is_not_installed_is_told_before_anything_is_trained(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    words = [*SMALL, f"record=[local,{name}]", f"paths.outputs={tmp_path / 'outputs'}"]
    said = lth_run(*words, environment={"WANDB_MODE": "offline"})
    assert said.status == 2
    assert said.err.startswith(f"error: record={name} needs {name}, which is not installed: pip")
    assert not (tmp_path / "outputs").exists()


class Broken:
    """A tracker that fails at its first row."""

    def __init__(self):
        self.calls = []

    def open(self, run):
        self.calls.append("open")

    def progress(self, progress):
        self.calls.append("progress")

    def metrics(self, rows):
        self.calls.append("metrics")
        raise OSError("no room\nat all")

    def samples(self, row):
        self.calls.append("samples")

    def round(self, row, ticket):
        self.calls.append("round")

    def close(self, state, error):
        self.calls.append(f"close {state}")


def test_a_tracker_that_fails_is_told_of_once_and_left_alone(caplog):
    broken = Broken()
    sink = NeverFatal(broken, "mine")
    sink.open(None)
    sink.metrics([])
    sink.round({}, None)
    sink.close("done", None)
    assert broken.calls == ["open", "metrics", "close failed"]
    assert caplog.messages == [
        "mine stopped: no room at all; the run goes on, its files are complete"
    ]


def test_a_tracker_of_your_own_is_named_by_its_class(tmp_path, monkeypatch):
    (tmp_path / "mytracker.py").write_text(
        "class Rows:\n"
        "    def __init__(self, path): self.path = path\n"
        "    def open(self, run): self.file = open(self.path, 'w')\n"
        "    def progress(self, progress): pass\n"
        "    def metrics(self, rows): pass\n"
        "    def samples(self, row): pass\n"
        "    def round(self, row, ticket): print(row['arm'], file=self.file)\n"
        "    def close(self, state, error): self.file.close()\n"
    )
    monkeypatch.chdir(tmp_path)
    said = lth_run(*SMALL, "record=local", "+record.mine._target_=mytracker.Rows",
                   "+record.mine.path=arms.txt", "replicates=1")  # fmt: skip
    assert said.status == 0, said.err
    assert Path("arms.txt").read_text().split() == ["ticket", *["ticket", "reinit"] * 2]
