"""The view of a run in Weights & Biases: complete, and never in the way."""

from __future__ import annotations

import json
import re
import struct
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from command import SMALL, folders, lth_run, rows, status_of
from forked import lth_run_forked
from lth_runner.runs.record import RunDescription, WeightsAndBiases

COMMAND = (*SMALL, "replicates=2", "probe=default")


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The outputs of a real offline run, and what it said."""
    path = tmp_path_factory.mktemp("offline")
    words = (*COMMAND, "paths.outputs=outputs")
    run = lth_run_forked(*words, logs=path, WANDB_MODE="offline", WANDB_DIR=str(path))
    return path, run.finish()


def records(path: Path) -> list[Any]:
    """Every record of a .wandb file.

    It is a LevelDB log after seven bytes of its own: blocks of 32 KiB, in them chunks with a
    header of checksum (4 bytes), length (2) and kind (whole 1, first 2, middle 3, last 4).
    """
    from wandb.proto import wandb_internal_pb2

    content, position, pending = path.read_bytes(), 7, b""
    assert content.startswith(b":W&B")
    found = []
    while position + 7 <= len(content):
        if (left := -position % 32768) and left < 7:
            position += left  # too short for a header: padding
            continue
        _, length, kind = struct.unpack("<IHB", content[position : position + 7])
        pending += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(pending)
            found.append(record)
            pending = b""
    assert pending == b""
    return found


def kept(outputs: Path) -> list[Any]:
    (path,) = outputs.rglob("*.wandb")  # one W&B run for one lth-run
    return records(path)


def history(found: list[Any]) -> list[dict[str, Any]]:
    """What was logged, one dictionary for each call."""
    return [
        {
            item.key or "/".join(item.nested_key): json.loads(item.value_json)
            for item in record.history.item
        }
        for record in found
        if record.WhichOneof("record_type") == "history"
    ]


def test_accuracy_against_sparsity_is_that_of_the_rows(offline: tuple[Path, str]) -> None:
    outputs = offline[0] / "outputs"
    logged = history(kept(outputs))
    (folder,) = folders(outputs)
    for arm in ("ticket", "reinit"):
        for seed in (0, 1):
            where = f"rounds/{arm}/seed-{seed}"
            curve = [
                (entry[f"{where}/sparsity"], entry[f"{where}/test_accuracy"])
                for entry in logged
                if f"{where}/test_accuracy" in entry
            ]
            assert curve == [
                (row["sparsity"], row["test_accuracy"])
                for row in rows(folder / "rounds.jsonl")
                if (row["arm"], row["seed"]) == (arm, seed)
            ]
            assert len(curve) == (3 if arm == "ticket" else 2)
    (row,) = [r for r in rows(folder / "rounds.jsonl") if (r["round"], r["seed"]) == (0, 1)]
    (entry,) = [e for e in logged if e.get("rounds/ticket/seed-1/round") == 0]
    for name, value in row.items():
        if isinstance(value, (int, float)):
            assert entry[f"rounds/ticket/seed-1/{name}"] == value
    assert entry["rounds/ticket/seed-1/layer_density/output.weight"] == 1.0


def test_every_evaluation_stands_against_a_step_that_only_grows(
    offline: tuple[Path, str],
) -> None:
    outputs = offline[0] / "outputs"
    logged = history(kept(outputs))
    where = "train/ticket/seed-0"
    curve = [entry for entry in logged if f"{where}/step" in entry]
    expected = [
        row
        for row in rows(folders(outputs)[0] / "metrics.jsonl")
        if (row["arm"], row["seed"]) == ("ticket", 0)
    ]
    assert len(curve) == len(expected) == 6
    for entry, row in zip(curve, expected, strict=True):
        assert {name: entry[f"{where}/{name}"] for name in row if name != "arm"} == {
            name: value for name, value in row.items() if name != "arm"
        }
    assert [entry[f"{where}/total_step"] for entry in curve] == [4, 8, 12, 16, 20, 24]


def test_each_curve_has_its_axis(offline: tuple[Path, str]) -> None:
    told = [
        record.metric
        for record in kept(offline[0] / "outputs")
        if record.WhichOneof("record_type") == "metric" and record.metric.glob_name
    ]
    metrics = {metric.glob_name: metric.step_metric for metric in told}
    assert len(metrics) == len(told) == 10  # once each, however many rows
    for arm in ("ticket", "reinit"):
        assert metrics[f"curves/{arm}/*"] == f"curves/{arm}/sparsity"
        for seed in (0, 1):
            curve = f"{arm}/seed-{seed}"
            assert metrics[f"rounds/{curve}/*"] == f"rounds/{curve}/sparsity"
            assert metrics[f"train/{curve}/*"] == f"train/{curve}/total_step"


def test_the_headline_is_summed_up_by_its_last_and_its_best_value(
    offline: tuple[Path, str],
) -> None:
    outputs = offline[0] / "outputs"
    found = kept(outputs)
    told = [r.metric for r in found if r.WhichOneof("record_type") == "metric" and r.metric.name]
    ways = {m.name: (m.summary.last, m.summary.max, m.summary.min) for m in told}
    assert ways["rounds/ticket/seed-0/test_accuracy"] == (True, True, False)
    summed = {
        item.key: json.loads(item.value_json)
        for record in found
        if record.WhichOneof("record_type") == "summary"
        for item in record.summary.update
    }
    last = [
        row
        for row in rows(folders(outputs)[0] / "rounds.jsonl")
        if (row["round"], row["arm"]) == (2, "ticket")
    ]
    assert summed["test_accuracy"] == pytest.approx(sum(r["test_accuracy"] for r in last) / 2)
    assert summed["sparsity"] == last[0]["sparsity"]


def test_it_holds_the_config_the_group_and_the_picture_under_the_run_folder(
    offline: tuple[Path, str],
) -> None:
    outputs = offline[0] / "outputs"
    (folder,) = folders(outputs)
    found = kept(outputs)
    (run,) = [record.run for record in found if record.WhichOneof("record_type") == "run"]
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    told = yaml.safe_load((folder / "config.yaml").read_text())
    assert {name: config[name] for name in told} == told
    assert config["run_id"] == folder.name
    assert (run.run_group, run.project, run.display_name) == (
        "small", "lth-runner", f"small-{folder.name[:8]}",
    )  # fmt: skip
    (picture,) = (folder / "wandb").rglob("curve*.png")
    assert picture.read_bytes() == (folder / "curve.png").read_bytes()
    assert not (offline[0] / "wandb").exists()  # all of it in the run folder
    size = sum(path.stat().st_size for path in (folder / "wandb").rglob("*") if path.is_file())
    assert size < 2**20


def test_the_mean_over_seeds_has_a_curve_with_one_deviation_below_and_above(
    offline: tuple[Path, str],
) -> None:
    outputs = offline[0] / "outputs"
    (folder,) = folders(outputs)
    logged = history(kept(outputs))
    for round in (1, 2):
        found = [
            row["test_accuracy"]
            for row in rows(folder / "rounds.jsonl")
            if (row["round"], row["arm"]) == (round, "ticket")
        ]
        where, (low, high), middle = "curves/ticket", sorted(found), sum(found) / 2
        spread = (high - low) / 2**0.5
        (entry,) = [
            e for e in logged if e.get(f"{where}/test_accuracy_mean") == pytest.approx(middle)
            and e[f"{where}/sparsity"] == pytest.approx(1 - 0.8**round, abs=0.01)
        ]  # fmt: skip
        assert entry[f"{where}/n"] == 2
        assert entry[f"{where}/test_accuracy_low"] == pytest.approx(middle - spread)


def test_all_rows_are_a_table(offline: tuple[Path, str]) -> None:
    (folder,) = folders(offline[0] / "outputs")
    (path,) = (folder / "wandb").rglob("rows*.table.json")
    table = json.loads(path.read_text())
    expected = rows(folder / "rounds.jsonl")
    assert [dict(zip(table["columns"], line, strict=True))["test_accuracy"] for line in
            table["data"]] == [row["test_accuracy"] for row in expected]  # fmt: skip


def test_tickets_are_an_artifact_that_says_what_they_come_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []
    wandb = Failing("never")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    wandb.Artifact = Artifact
    wandb.log_artifact = sent.append
    words = (*SMALL, f"paths.outputs={tmp_path}", "record.wandb.tickets=last", "replicates=2")
    assert lth_run(*words, environment={"WANDB_MODE": "offline"}).status == 0
    (folder,) = folders(tmp_path)
    (artifact,) = sent
    assert artifact.files == {
        "tickets/round-02.safetensors", "tickets/round-02-seed-1.safetensors",
        "config.yaml", "problem.json", "rounds.jsonl",
    }  # fmt: skip
    problem = json.loads((folder / "problem.json").read_text())
    assert artifact.metadata["data"] == problem["identity"]["data"]
    assert artifact.metadata["run_id"] == folder.name


class Artifact:
    """What is gathered in an artifact."""

    def __init__(self, name: str, type: str, metadata: dict[str, Any]) -> None:
        self.name, self.type, self.metadata = name, type, metadata
        self.files: set[str] = set()

    def add_file(self, path: str, name: str) -> None:
        assert Path(path).is_file()
        self.files.add(name)


def test_it_adds_one_line_to_what_the_run_says(offline: tuple[Path, str]) -> None:
    outputs, said = offline
    lines = [line for line in said.splitlines() if re.search("wandb|W&B", line)]
    (folder,) = (outputs / "outputs").rglob("offline-run-*")
    assert lines == [f"W&B      wandb sync {folder.relative_to(outputs)}"]


class Failing:
    """A wandb that fails at one of its calls."""

    def __init__(self, at: str) -> None:
        self.calls: list[str] = []
        self._at = at
        self.Settings = SimpleNamespace
        self.Image = str
        self.Table = dict
        self.summary: dict[str, Any] = {}
        self.dir, self.url = "/nowhere/files", None
        self.logged: list[dict[str, Any]] = []

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self._at:
            raise RuntimeError(f"{name} fails")

    def init(self, **_: Any) -> Failing:
        self._call("init")
        return self

    def define_metric(self, *_: Any, **__: Any) -> None:
        self._call("define_metric")

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)
        self._call("log")

    def finish(self, **_: Any) -> None:
        self._call("finish")


@pytest.mark.parametrize("at", ["init", "define_metric", "log", "finish"])
def test_a_failing_wandb_warns_once_and_the_run_ends_done(
    at: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = Failing(at)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    said = lth_run(*SMALL, f"paths.outputs={tmp_path}", environment={"WANDB_MODE": "offline"})
    assert said.status == 0, said.err
    assert [r.message for r in caplog.records if "wandb stopped" in r.message] == [
        f"wandb stopped: {at} fails; the run goes on, its files are complete"
    ]
    assert wandb.calls.count("init") == 1
    if at != "init":
        assert wandb.calls[-1] == "finish"  # the next run of a sweep must not write into this one
    (folder,) = folders(tmp_path)
    assert status_of(folder)["state"] == "done"
    assert len(rows(folder / "rounds.jsonl")) == 5


def test_disabled_imports_no_wandb(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import raises
    said = lth_run(*SMALL, f"paths.outputs={tmp_path}", environment={"WANDB_MODE": "disabled"})
    assert said.status == 0
    assert "W&B" not in caplog.text + said.out + said.err
    assert not list(tmp_path.rglob("wandb"))


def test_a_continued_run_sends_the_rows_of_the_earlier_attempt_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = {"round": 1, "arm": "ticket", "seed": 0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(place | {"step": 20}) + "\n")
    (tmp_path / "rounds.jsonl").write_text(
        json.dumps(place | {"sparsity": 0.2, "steps": 60}) + "\n"
    )
    run = RunDescription("small", "0123456789", tmp_path, {}, {}, "lth-run", "p", 2, 3, 60)
    wandb = Failing("never")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setenv("WANDB_MODE", "")
    view = WeightsAndBiases(mode="offline", project="p", entity=None, group=None)
    view.open(run)
    now = {**place, "arm": "reinit", "step": 60}
    with (tmp_path / "metrics.jsonl").open("a") as opened:  # the folder's turn comes first
        opened.write(json.dumps(now) + "\n")
    view.metrics([now])
    assert [values.get("train/ticket/seed-0/total_step") for values in wandb.logged] == [
        40, None, None,
    ]  # fmt: skip
    assert wandb.logged[1]["rounds/ticket/seed-0/sparsity"] == 0.2
    assert wandb.logged[2]["train/reinit/seed-0/total_step"] == 80


@pytest.mark.parametrize(("mode", "starts_at_once"), [("offline", False), ("online", True)])
def test_an_offline_view_begins_with_the_first_rows(
    mode: str, starts_at_once: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDescription("small", "0123456789", tmp_path, {}, {}, "lth-run", "p", 2, 3, 60)
    monkeypatch.setenv("WANDB_MODE", "")
    wandb = Failing("never")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    view = WeightsAndBiases(mode=mode, project="p", entity=None, group=None)
    view.open(run)
    assert wandb.calls == ["init"] * starts_at_once
    view.close("interrupted", None)
    assert wandb.calls == ["init", "finish"] * starts_at_once
    again = WeightsAndBiases(mode=mode, project="p", entity=None, group=None)
    again.open(run)
    again.metrics([])
    again.metrics([])
    assert wandb.calls.count("init") == 1 + starts_at_once


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["record.wandb.mode=ofline"], {}, "record.wandb.mode='ofline': did you mean offline"),
        ([], {"WANDB_MODE": "of"}, "WANDB_MODE='of': "),
    ],
)
def test_a_mode_that_is_none_is_an_error(
    tmp_path: Path, arguments: list[str], environment: dict[str, str], message: str
) -> None:
    said = lth_run(*SMALL, f"paths.outputs={tmp_path}", *arguments, environment=environment)
    assert said.status == 2
    assert said.err.startswith(f"error: {message}")
