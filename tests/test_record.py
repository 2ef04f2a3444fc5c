"""The run folder: what other programs may rely on."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml
from safetensors import safe_open

from command import SMALL, contents, folders, lth_run, no_training, rows, status_of, untimed
from lth_runner.runs import judged_by
from lth_runner.runs.folder import plain, read_status, write_status
from lth_runner.runs.pages.drawn import stale
from lth_runner.runs.record import Record, RunDescription, RunFolder, coverage
from lth_runner.runs.seal import damaged
from lth_runner.runs.status.reading import read_points
from lth_runner.runs.status.retry import chosen
from lth_runner.values.json_files import whole_objects
from lth_runner.values.pieces import piece
from lth_runner.values.processes import place

COMMAND = (*SMALL, "replicates=2", "seed=3", "control=[reinit,shuffle]", "probe=default")
OF_ROUNDS = {
    "round", "arm", "seed", "sparsity", "density", "num_kept", "num_prunable", "train_loss",
    "val_accuracy", "test_accuracy", "test_loss", "sign_preservation", "jaccard_early_gradient",
    "layer_density", "training_key", "reused", "seconds", "search_seconds",
}  # fmt: skip
OF_METRICS = {"step", "round", "arm", "seed", "train_loss", "learning_rate", "test_accuracy"}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a finished run of two replicates."""
    path = tmp_path_factory.mktemp("outputs")
    assert lth_run(*COMMAND, f"paths.outputs={path}", pictures=True).status == 0
    return path


@pytest.fixture
def copied(outputs: Path, tmp_path: Path) -> Path:
    """A copy of them to damage."""
    return Path(shutil.copytree(outputs, tmp_path / "copy"))


def tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as opened:
        names = list(opened.keys())
        return {name: opened.get_tensor(name) for name in names}, opened.metadata()


def test_a_finished_run_folder_holds_the_promised_files_and_no_others(outputs: Path) -> None:
    (folder,) = folders(outputs)
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        "config.yaml", "status.json", "rounds.jsonl", "metrics.jsonl", "environment.json",
        "samples.jsonl",        "problem.json", "engine.json",
        "curve.png", "report.html",
        *(f"tickets/round-0{n}{seed}.safetensors" for n in range(3) for seed in ("", "-seed-4")),
    }  # fmt: skip


def test_a_row_for_every_round_arm_and_seed_holds_every_promised_field(outputs: Path) -> None:
    (folder,) = folders(outputs)
    found = rows(folder / "rounds.jsonl")
    arms = [(0, "ticket")] + [(n, a) for n in (1, 2) for a in ("ticket", "reinit", "shuffle")]
    places = [(row["round"], row["arm"], row["seed"]) for row in found]
    assert sorted(places) == sorted((n, arm, seed) for n, arm in arms for seed in (3, 4))
    for row in found:
        assert row.keys() >= OF_ROUNDS
        assert row["num_prunable"] == 64 * 8 + 8 * 10
        assert row["density"] == row["num_kept"] / row["num_prunable"]
        assert row["sparsity"] == pytest.approx(1 - row["density"], abs=1e-12)
        kept = (
            row["layer_density"]["linear1.weight"] * 512
            + row["layer_density"]["output.weight"] * 80
        )
        assert round(kept) == row["num_kept"]
        assert (outputs / "store" / "entries" / row["training_key"] / "training.json").exists()
        assert row["reused"] is False
        assert row["seconds"] > 0
    counts = {row["round"]: row["num_kept"] for row in found}
    assert counts == {0: 592, 1: round(592 * 0.8), 2: round(592 * 0.64)}


def test_metrics_hold_every_evaluation_of_every_training(outputs: Path) -> None:
    (folder,) = folders(outputs)
    found = rows(folder / "metrics.jsonl")
    assert len(found) == 2 * len(rows(folder / "rounds.jsonl"))
    assert all(row.keys() >= OF_METRICS for row in found)
    assert [row["step"] for row in found] == [4, 8] * (len(found) // 2)


def test_tickets_hold_masks_and_the_masked_weights_that_training_started_from(
    outputs: Path,
) -> None:
    (folder,) = folders(outputs)
    recorded = {
        (r["round"], r["seed"]): r for r in rows(folder / "rounds.jsonl") if r["arm"] == "ticket"
    }
    config = yaml.safe_load((folder / "config.yaml").read_text())
    for (number, seed), row in recorded.items():
        suffix = "" if seed == 3 else "-seed-4"
        path = folder / "tickets" / f"round-0{number}{suffix}.safetensors"
        found, metadata = tensors(path)
        first, _ = tensors(path.with_name(f"round-00{suffix}.safetensors"))
        masks = {n.removeprefix("mask."): v for n, v in found.items() if n.startswith("mask.")}
        assert masks.keys() == {"linear1.weight", "output.weight"}
        assert all(kept.dtype == torch.bool for kept in masks.values())
        assert sum(int(kept.sum()) for kept in masks.values()) == row["num_kept"]
        for name, kept in masks.items():
            # rewound to the first weights: survivors bit-equal, the rest exactly zero
            assert torch.equal(found[f"weights.{name}"], first[f"weights.{name}"] * kept)
        assert float(metadata["sparsity"]) == row["sparsity"]
        assert (metadata["seed"], metadata["start_step"]) == (str(seed), "0")
        assert json.loads(metadata["model"]) == config["model"]
        assert json.loads(metadata["dataset"]) == config["dataset"]
        assert metadata["format"] == "1"


def test_the_status_of_a_finished_run_says_done_and_which_command_it_was(outputs: Path) -> None:
    (folder,) = folders(outputs)
    found = status_of(folder)
    assert (found["state"], found["round"], found["rounds"], found["error"]) == ("done", 2, 3, None)
    assert found["started"] <= found["updated"]
    assert found["command"].startswith("lth-run +scale=smoke dataset=synthetic ")
    environment = json.loads((folder / "environment.json").read_text())
    assert environment.keys() >= {"git", "torch", "python", "device", "lth_runner"}


def test_a_finished_run_comes_back_at_once_and_touches_nothing(copied: Path) -> None:
    before = contents(copied)
    with no_training():
        said = lth_run(*COMMAND, f"paths.outputs={copied}")
    assert said.status == 0
    assert "round  sparsity" in said.out
    assert contents(copied) == before


@pytest.mark.slow
def test_a_finished_run_is_judged_by_the_report_keys_of_the_last_command(
    copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder,) = folders(copied)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    before = contents(folder)
    told = []
    for keys in (["report.samples=fixed", "report.tolerance=50%"], []):
        with no_training():
            said = lth_run(*COMMAND, *keys, f"paths.outputs={copied}", pictures=True)
        assert (said.status, said.err, stale(folder)) == (0, "", [])
        asked = dict(key.removeprefix("report.").split("=") for key in keys)
        now = yaml.safe_load((folder / "config.yaml").read_text())
        assert now == {**config, "report": {**config["report"], **asked}}
        assert all(key in status_of(folder)["command"] for key in keys)
        told.append(said.out + (folder / "report.html").read_text())
        after = contents(folder)
        redone = {name for name in after if after[name][0] != before[name][0]}
        assert redone == {"config.yaml", "status.json", "curve.png", "report.html"}
        before = after
    assert "the test images are all that is asked about" in told[0]
    assert "all that is asked about" not in told[1]
    assert "0.005 -> 50%, report.samples: drawn -> fixed" in caplog.text
    assert "50% -> 0.005, report.samples: fixed -> drawn" in caplog.text
    assert read_points(copied, datetime.now(timezone.utc))[0].state == "done"


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_run_that_is_judged_anew_is_whole_whenever_that_is_killed(
    copied: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    (folder,) = folders(copied)
    report = {**yaml.safe_load((folder / "config.yaml").read_text())["report"], "samples": "fixed"}
    writes = itertools.count(1)

    def killed(write: Callable[..., None]) -> Callable[..., None]:
        def until(*arguments: Any) -> None:
            if next(writes) == step:
                raise KeyboardInterrupt
            write(*arguments)

        return until

    with monkeypatch.context() as patch:
        for name in ("write_status", "write_config"):
            patch.setattr(judged_by, name, killed(getattr(judged_by, name)))
        with pytest.raises(KeyboardInterrupt):
            judged_by.judge_by(folder, report, "lth-run")
    assert damaged(folder, read_status(folder)) == []
    with no_training():
        said = lth_run(*COMMAND, "report.samples=fixed", f"paths.outputs={copied}")
    assert said.status == 0
    assert "all that is asked about" in said.out
    assert "config.yaml" in status_of(folder)["files"]


@pytest.mark.parametrize(
    "cut",
    [
        lambda text: text[:-40],  # within the last row
        lambda text: text[: text.rstrip().rindex("\n") + 1],  # metrics written, their row not
        lambda text: "\n".join(text.splitlines()[:5]) + "\n",
        lambda text: text[:-40] + "\0" * 40 + "\n",  # a block that never reached the disk
        lambda text: "",
    ],
)
def test_a_run_cut_short_ends_with_the_same_rows(copied: Path, cut: Callable[[str], str]) -> None:
    (folder,) = folders(copied)
    whole = {name: untimed(folder / name) for name in ("rounds.jsonl", "metrics.jsonl")}
    (folder / "rounds.jsonl").write_text(cut((folder / "rounds.jsonl").read_text()))
    status = status_of(folder)
    (folder / "status.json").write_text(json.dumps(status | {"state": "running"}))
    with no_training():
        assert lth_run(*COMMAND, f"paths.outputs={copied}").status == 0
    assert {name: untimed(folder / name) for name in whole} == whole
    assert status_of(folder)["state"] == "done"


@pytest.mark.parametrize("num_lost", [1, 4, 100])
def test_a_row_whose_evaluations_a_power_cut_took_is_written_again(
    copied: Path, num_lost: int
) -> None:
    (folder,) = folders(copied)
    whole = {name: untimed(folder / name) for name in ("rounds.jsonl", "metrics.jsonl")}
    kept = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)[:-num_lost]
    (folder / "metrics.jsonl").write_text("".join(kept))
    status = status_of(folder)
    (folder / "status.json").write_text(json.dumps(status | {"state": "running"}))
    with no_training():
        assert lth_run(*COMMAND, f"paths.outputs={copied}").status == 0
    assert {name: untimed(folder / name) for name in whole} == whole


def test_the_rows_are_on_the_disk_before_the_status_that_says_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []

    def sync(handle: int) -> None:
        synced.append(Path(f"/proc/self/fd/{handle}").readlink().name)

    monkeypatch.setattr("lth_runner.values.files.os.fsync", sync)
    sink = RunFolder(draw=lambda folder: None)
    sink.open(described(tmp_path))
    before = len(synced)
    for number in range(3):
        sink.metrics([{"round": number, "arm": "ticket", "seed": 0, "step": 5}])
        sink.round(
            {"round": number, "arm": "reinit", "seed": 0, "steps": 5, "reused": False}, mock.Mock()
        )
    sink.close("done", None)
    told = [re.sub(r"^\.(.*)\.[\w-]+\.part$", r"\1", name) for name in synced[before:]]
    assert told[-4:] == ["metrics.jsonl", "samples.jsonl", "rounds.jsonl", "status.json"]
    assert len(told) <= 7  # at the first row and at the end, not at each


def flip(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def flip_key(content: bytes) -> bytes:
    return content.replace(b'"round"', b'"rounc"', 1)


def flip_figure(content: bytes) -> bytes:
    digit = content.index(b'"test_accuracy": 0.') + len(b'"test_accuracy": 0.')
    return content[:digit] + bytes([content[digit] ^ 1]) + content[digit + 1 :]


HARMS: dict[str, Callable[[bytes], bytes | None]] = {
    "flipped": flip,
    "truncated": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "deleted": lambda content: None,
    "longer": lambda content: content + b"{}\n",
}
ANEW = {"search_seconds", "started", "updated", "seal", "files", "command"}  # whose outputs differ
FILES = (
    "config.yaml", "environment.json", "problem.json", "engine.json", "status.json", "rounds.jsonl",
    "metrics.jsonl", "samples.jsonl", "tickets/round-00.safetensors",
    "tickets/round-02-seed-4.safetensors",
)  # fmt: skip


def facts(path: Path) -> object:
    """What a file says, without what is timed anew."""
    if path.suffix == ".jsonl":
        return untimed(path)
    if path.suffix == ".json":
        found = {k: v for k, v in json.loads(path.read_text()).items() if k not in ANEW}
        if path.name == "status.json":
            del found["steps"]["replayed"]  # which nothing else holds
        return found
    if path.suffix == ".yaml":
        return {k: v for k, v in yaml.safe_load(path.read_text()).items() if k != "paths"}
    return path.read_bytes()


def some(pairs: list[tuple[str, str]]) -> list[Any]:
    """Every harm to every file: each file, and each harm, once in the quick tests."""
    quick = {(name, list(HARMS)[n % len(HARMS)]) for n, name in enumerate(dict(pairs))}
    return [
        pytest.param(name, HARMS[how], id=f"{name} {how}", marks=[] if one in quick else SLOW)
        for one in pairs
        for name, how in [one]
    ]


SLOW = pytest.mark.slow
EVERY = [(name, how) for name in FILES for how in HARMS]


def harm(path: Path, how: Callable[[bytes], bytes | None]) -> None:
    content = how(path.read_bytes())
    path.unlink()
    if content is not None:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "how"),
    [
        *some(EVERY),
        ("rounds.jsonl", flip_key), ("metrics.jsonl", flip_key), ("metrics.jsonl", flip_figure),
    ],
)  # fmt: skip
def test_a_file_of_a_finished_run_that_is_not_what_was_written_is_made_again_and_told(
    outputs: Path, copied: Path, caplog: pytest.LogCaptureFixture, name: str, how: Any
) -> None:
    (folder,), (whole,) = folders(copied), folders(outputs)
    harm(folder / name, how)
    with no_training():
        said = lth_run(*COMMAND, f"paths.outputs={copied}")
    assert (said.status, said.err) == (0, "")
    assert f"{name}, not what was written (damaged or missing): written again" in caplog.text
    for other in FILES:
        assert facts(folder / other) == facts(whole / other), other
    before = contents(copied)
    with no_training():
        assert lth_run(*COMMAND, f"paths.outputs={copied}").status == 0
    assert contents(copied) == before


@pytest.mark.parametrize(
    ("name", "how"), some([(name, how) for name in ("curve.png", "report.html") for how in HARMS])
)
def test_a_picture_of_a_finished_run_that_is_not_what_was_drawn_is_drawn_again_and_told(
    copied: Path, caplog: pytest.LogCaptureFixture, name: str, how: Any
) -> None:
    (folder,) = folders(copied)
    assert stale(folder) == []
    harm(folder / name, how)
    with no_training():
        said = lth_run(*COMMAND, f"paths.outputs={copied}")
    assert (said.status, said.err) == (0, "")
    assert f"{name} drawn again" in caplog.text
    assert stale(folder) == []


@pytest.mark.parametrize(("name", "how"), some(EVERY))
def test_a_run_whose_files_are_harmed_before_it_goes_on_ends_with_the_same_files(
    outputs: Path, copied: Path, name: str, how: Any
) -> None:
    (folder,), (whole,) = folders(copied), folders(outputs)
    status = status_of(folder)
    del status["seal"]
    write_status(folder, status | {"state": "running"})
    harm(folder / name, how)
    with no_training():
        said = lth_run(*COMMAND, f"paths.outputs={copied}")
    assert (said.status, said.err) == (0, "")
    for other in FILES:
        assert facts(folder / other) == facts(whole / other), other


@pytest.mark.parametrize(("name", "how"), [("rounds.jsonl", flip_key), ("metrics.jsonl", flip_key)])
def test_a_harmed_run_of_a_version_that_sealed_nothing_is_continued(
    copied: Path, name: str, how: Any
) -> None:
    (folder,) = folders(copied)
    whole = untimed(folder / name)
    status = {k: v for k, v in status_of(folder).items() if k not in ("seal", "files", "engine")}
    (folder / "status.json").write_text(json.dumps(status | {"state": "interrupted"}))
    harm(folder / name, how)
    with no_training():
        said = lth_run(*COMMAND, f"paths.outputs={copied}")
    assert (said.status, said.err) == (0, "")
    assert untimed(folder / name) == whole


def test_what_a_kill_left_that_came_while_a_finished_run_was_drawn_is_cleared(copied: Path) -> None:
    (folder,) = folders(copied)
    (folder / "report.html").unlink()
    left = piece(folder / "report.html")
    left.with_name(left.name.replace(f"-{os.getpid()}-", "-4194305-")).write_bytes(b"half")
    lease = copied / "store" / "leases" / f"run-small-{folder.name}"
    lease.write_text(json.dumps({"place": place(), "pid": 4194305, "began": "1", "token": "t"}))
    with no_training():
        assert lth_run(*COMMAND, f"paths.outputs={copied}").status == 0
    assert not list(copied.rglob("*.part"))
    assert not lease.exists()
    assert stale(folder) == []


def test_what_a_kill_left_beside_the_files_of_a_run_is_cleared(copied: Path) -> None:
    (folder,) = folders(copied)
    for file in (folder / "status.json", folder / "tickets" / "round-00.safetensors"):
        left = piece(file)
        left.with_name(left.name.replace(f"-{os.getpid()}-", "-4194305-")).write_bytes(b"half")
    (folder / "status.json").unlink()
    with no_training():
        assert lth_run(*COMMAND, f"paths.outputs={copied}").status == 0
    assert not list(copied.rglob("*.part"))


def test_other_probes_measure_anew_without_training(copied: Path) -> None:
    (folder,) = folders(copied)
    before = untimed(folder / "rounds.jsonl")
    with no_training():
        assert lth_run(*COMMAND, "probe=none", f"paths.outputs={copied}").status == 0
    after = untimed(folder / "rounds.jsonl")
    assert len(after) == len(before)
    for old, new in zip(before, after, strict=True):
        assert "sign_preservation" in old
        assert "sign_preservation" not in new
        assert new == {name: old[name] for name in new}  # seconds, reused, training_key as well


def test_a_kill_amid_a_change_of_probes_leaves_no_run_that_looks_done(copied: Path) -> None:
    from lth_runner.runs.record import folder as module

    (folder,) = folders(copied)
    before = untimed(folder / "rounds.jsonl")
    real = module.GrowingRows

    def killed(path: Path, rows: list[Any]) -> object:
        if path.name == "rounds.jsonl":
            raise KeyboardInterrupt  # metrics.jsonl has been emptied by now
        return real(path, rows)

    with mock.patch.object(module, "GrowingRows", killed):
        assert lth_run(*COMMAND, "probe=none", f"paths.outputs={copied}").status == 130
    with no_training():
        assert lth_run(*COMMAND, f"paths.outputs={copied}").status == 0
    assert untimed(folder / "rounds.jsonl") == before


def test_a_diverged_training_is_recorded_with_nulls_and_its_siblings_go_on(tmp_path: Path) -> None:
    said = lth_run(*SMALL, "train.optimizer.lr=1e30", f"paths.outputs={tmp_path}")
    (folder,) = folders(tmp_path)
    (row,) = rows(folder / "rounds.jsonl")
    assert row["diverged"] is True
    assert any(row["train_loss"] is None for row in rows(folder / "metrics.jsonl"))
    assert "DIVERGED" in said.out
    assert (said.status, status_of(folder)["state"]) == (3, "diverged")
    assert "The dense network diverged in all of 1 replicates" in said.out
    assert "a ticket diverged: its loss became NaN or infinite" in said.err
    with no_training():
        again = lth_run(*SMALL, "train.optimizer.lr=1e30", f"paths.outputs={tmp_path}")
    assert (again.status, again.out) == (3, said.out[said.out.index("\nsmall ") :])


def test_a_sweep_with_a_point_that_diverged_ends_with_that_status(tmp_path: Path) -> None:
    rates = "train.optimizer.lr=0.1,1e30"
    swept = f"hydra.sweep.dir={tmp_path}/sweep"
    said = lth_run("-m", *SMALL, rates, f"paths.outputs={tmp_path}", swept)
    assert said.status == 3
    assert "warning: 1 of 2 points diverged" in said.err
    assert sorted(status_of(f)["state"] for f in folders(tmp_path)) == ["diverged", "done"]
    points = read_points(tmp_path, datetime.now(timezone.utc))
    assert sorted(point.state for point in points) == ["diverged", "done"]
    assert all(point.ending is not None for point in points)
    assert chosen(points, refused=True) == []  # the same command would end in the same way


def test_a_control_that_diverges_alone_leaves_a_run_done(tmp_path: Path) -> None:
    deep = f"model.widths={[8] * 13}".replace(" ", "")  # 1000 to the 14th is beyond float32
    words = (deep, "control=noise", "control.noise.size=1000", f"paths.outputs={tmp_path}")
    said = lth_run(*(word for word in SMALL if not word.startswith("control=")), *words)
    (folder,) = folders(tmp_path)
    found = {(row["arm"], row["diverged"]) for row in rows(folder / "rounds.jsonl")}
    assert found == {("ticket", False), ("noise", True)}
    assert (said.status, status_of(folder)["state"]) == (0, "done")
    assert "Trainings that diverged: 2 of" in said.out


def test_a_failed_run_says_why_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with mock.patch("lth_runner.probe.Performance.__call__", side_effect=ZeroDivisionError("oh")):
        said = lth_run(*SMALL, f"paths.outputs={tmp_path}")
    (folder,) = folders(tmp_path)
    found = status_of(folder)
    assert (said.status, found["state"], found["error"]) == (1, "failed", "ZeroDivisionError: oh")
    assert rows(folder / "rounds.jsonl") == []
    assert lth_run(*SMALL, f"paths.outputs={tmp_path}").status == 0
    assert (status_of(folder)["state"], status_of(folder)["error"]) == ("done", None)


def described(folder: Path, **changed: Any) -> RunDescription:
    facts: dict[str, Any] = {
        "name": "small", "run_id": "0", "folder": folder, "environment": {}, "command": "lth-run",
        "config": {"seed": 0, "model": {}, "dataset": {}}, "probes": "p", "num_rounds": 1,
        "num_trainings": 1, "num_steps": 1,
    }  # fmt: skip
    return RunDescription(**(facts | changed))


def failing(folder: Path) -> object:
    raise RuntimeError("no ink")


def test_a_picture_that_fails_ends_no_training_but_leaves_no_run_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lth_runner.runs.record.folder.DRAW_SECONDS", 0.0)
    sink = RunFolder(draw=failing)
    sink.open(described(tmp_path))
    for number in range(3):
        sink.round(
            {"round": number, "arm": "reinit", "seed": 0, "steps": 5, "reused": False}, mock.Mock()
        )
    assert "no ink" in caplog.text
    assert len(rows(tmp_path / "rounds.jsonl")) == 3
    with pytest.raises(RuntimeError, match="no ink"):
        sink.close("done", None)
    assert status_of(tmp_path)["state"] == "failed"


@pytest.mark.parametrize(("takes", "num_pictures"), [(0.1, 9), (2.0, 3)])
def test_pictures_on_the_way_take_a_hundredth_of_the_time(
    takes: float, num_pictures: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = mock.Mock(now=0.0)
    monkeypatch.setattr("lth_runner.runs.record.folder.time.monotonic", lambda: clock.now)
    pictures = []

    def draw(folder: Path) -> None:
        clock.now += takes
        pictures.append(clock.now)

    sink = RunFolder(draw)
    sink.open(described(tmp_path))
    for number in range(10):  # rounds of 70 seconds
        row = {"round": number, "arm": "reinit", "seed": 0, "steps": 5, "reused": False}
        sink.round(row, mock.Mock())
        clock.now += 70
    assert len(pictures) == num_pictures


@pytest.mark.parametrize("state", ["done", "failed"])
def test_every_sink_is_closed_whatever_becomes_of_another(state: str) -> None:
    broken, other = mock.Mock(), mock.Mock()
    broken.close.side_effect = OSError("full")
    if state == "done":
        with pytest.raises(OSError, match="full"):
            Record([broken, other]).close(state)
    else:  # the failure that ended the run is the one to tell
        Record([broken, other]).close(state, "RuntimeError: first")
    other.close.assert_called_once()


@pytest.mark.parametrize(
    ("prunable", "names", "said"),
    [
        (592, [], "592 of 610 parameters (97 %)"),
        (610, [], "610 of 610 parameters (100 %)"),
        (1, ["embedding.weight"], "1 of 610 parameters (0.164 %); embedding.weight stays dense"),
        (50, list("abcdef"), "50 of 610 parameters (8.2 %); a, b, c, d and 2 more stay dense"),
    ],
)
def test_what_a_mask_covers_is_told_as_a_share_of_all_parameters(
    prunable: int, names: list[str], said: str
) -> None:
    facts = {"num_prunable": prunable, "num_parameters": 610, "passed_over": names}
    assert coverage(facts) == said


def test_problem_json_says_what_is_measured_and_covered(outputs: Path) -> None:
    (folder,) = folders(outputs)
    found = json.loads((folder / "problem.json").read_text())
    assert (found["objective"], found["num_parameters"], found["num_prunable"]) == (
        "CrossEntropy", 64 * 8 + 8 + 8 * 10 + 10, 64 * 8 + 8 * 10,
    )  # fmt: skip
    names = [one["name"] for one in found["measures"]]
    assert names[0] == "accuracy"
    assert found["measures"][0]["chance"] == 0.1
    assert found["identity"].keys() >= {"model", "data"}
    for row in rows(folder / "rounds.jsonl"):
        assert row.keys() >= {f"test_{name}" for name in names}


def test_rows_are_plain_json_and_whole(tmp_path: Path) -> None:
    assert plain({"a": math.nan, "b": -math.inf, "c": 1.5, "d": True, "e": None}) == {
        "a": None, "b": None, "c": 1.5, "d": True, "e": None,
    }  # fmt: skip
    path = tmp_path / "rows.jsonl"
    assert whole_objects(path) == []
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": 3}')
    assert whole_objects(path) == [{"a": 1}, {"a": 2}]
    path.write_bytes(b'{"a": 1}\n\xff\n{"a": 3}\n')
    assert whole_objects(path) == [{"a": 1}]
