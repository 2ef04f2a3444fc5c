"""One run in one call: what the command line does, in a process that has other things to do."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import tqdm.notebook
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.version import getbase

import lth_runner
import small
from command import (
    SMALL,
    contents,
    folders,
    lth_run,
    no_training,
    rows,
    status_of,
    without_pictures,
)
from lth_runner import Result, UserError, api, compose, run
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.runs.record import Console, console
from lth_runner.runs.record.console import is_of_a_notebook

TIMED = ("seconds", "search_seconds", "reused")


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(tmp_path)
    with without_pictures():
        yield


def untimed(folder: Path) -> list[dict[str, Any]]:
    return [
        {k: v for k, v in row.items() if k not in TIMED} for row in rows(folder / "rounds.jsonl")
    ]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run that was made from Python."""
    outputs = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch, without_pictures():
        patch.setenv("WANDB_MODE", "disabled")
        return run(*SMALL, "replicates=2", f"paths.outputs={outputs}", quiet=True)


def test_a_run_is_the_one_that_the_command_line_makes(tmp_path: Path) -> None:
    said = lth_run(*SMALL, "paths.outputs=by_command")
    assert said.status == 0, said.err
    [theirs] = folders(Path("by_command"))
    ours = run(*SMALL, "paths.outputs=by_python", quiet=True).folder
    assert ours.name == theirs.name
    assert contents(ours).keys() == contents(theirs).keys()
    assert untimed(ours) == untimed(theirs)
    for name in (path.name for path in (theirs / "tickets").iterdir()):
        assert (ours / "tickets" / name).read_bytes() == (theirs / "tickets" / name).read_bytes()
    commands = [status_of(folder)["command"] for folder in (ours, theirs)]
    assert commands[0] == commands[1].replace("by_command", "by_python")
    before = contents(theirs)
    with no_training():  # each finds done what the other has made, and its trainings
        assert run(*SMALL, "paths.outputs=by_command", quiet=True).folder == theirs
        assert lth_run(*SMALL, "paths.outputs=by_python").status == 0
        run(*SMALL, "paths.outputs=by_command", "name=other", quiet=True)
    assert contents(theirs) == before


def test_what_is_interrupted_goes_on_by_the_same_call() -> None:
    words = (*SMALL, "paths.outputs=outputs")
    steps, progress = [], Console.progress

    def pressed(self: Console, seen: Any) -> None:
        progress(self, seen)
        steps.append(seen.step)
        if seen.round == 1:
            signal.raise_signal(signal.SIGINT)

    with mock.patch.object(Console, "progress", pressed), pytest.raises(KeyboardInterrupt):
        run(*words)
    [folder] = folders(Path("outputs"))
    assert status_of(folder)["state"] == "interrupted"
    before = rows(folder / "rounds.jsonl")
    assert before
    with pytest.raises(UserError, match="is not done, its status is interrupted"):
        _ = Result(folder).value
    assert run(*words, quiet=True).folder == folder
    assert status_of(folder)["state"] == "done"
    assert rows(folder / "rounds.jsonl")[: len(before)] == before
    whole = run(*SMALL, "paths.outputs=whole", quiet=True)
    assert untimed(folder) == untimed(whole.folder)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pruner.sparsity=2"], "sparsity"),
        (["model=mlpp"], "there is no model=mlpp: did you mean mlp"),
        (["pruner.sparsety=0.5"], "did you mean pruner.sparsity"),
        (["seed=1,2"], "call run.* in a loop.* lth-run -m seed=1,2"),
        (["-m", "seed=1,2"], "lth-run -m seed=1,2"),
        (["seed=range(3)"], "a sweep is several runs"),
        (["+sweep=seeds"], "a sweep is several runs"),
        (["+study=bayesian_tickets"], r"a study is several runs.* lth-run \+study"),
        (["--cfg=job"], "an option of the command line"),
        (["--config-dir=mine"], "config_dir="),
        (["control=[none,reinit]"], "none stands alone"),
        ([3], "3 is no word"),
        (["seed=1 +scale=smoke"], r"several words in one .*'seed=1', '\+scale=smoke'"),
    ],
)
def test_a_mistake_is_one_message_and_an_exception(words: list[Any], told: str) -> None:
    small = [] if "several" in told or "lth-run" in told else SMALL
    with pytest.raises(UserError, match=told), no_training():
        run(*small, *words, quiet=True)
    assert not Path("outputs").exists()


def test_a_full_disk_is_one_message_and_a_bug_is_raised_as_it_is() -> None:
    for error, kind in ((OSError(28, "No space left", "x"), UserError), (KeyError("x"), KeyError)):
        with (
            mock.patch("lth_runner.api.running.carry_out", side_effect=error),
            pytest.raises(kind),
        ):
            run(*SMALL, quiet=True)


def state_of_the_process() -> dict[str, Any]:
    return {
        "signals": [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "matmul": torch.get_float32_matmul_precision(),
        "environment": dict(os.environ),
        "path": list(sys.path),
        "hydra": (GlobalHydra.instance().hydra, HydraConfig.instance().cfg, getbase()),
        "random": (random.getstate(), np.random.get_state()[1].tolist()),
        "torch": torch.random.get_rng_state().tolist(),
        "folder": Path.cwd(),
    }


def test_the_process_is_as_it_was_also_within_a_hydra_application(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    monkeypatch.syspath_prepend("")
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with initialize_config_dir(version_base="1.2", config_dir=str(conf_dir())):
            before = state_of_the_process()
            run(*SMALL, "train.deterministic=true", quiet=True)
            with pytest.raises(UserError):
                run("model=mlpp")
            with pytest.raises(UserError):
                run(*SMALL, "pruner.sparsity=2")
            assert state_of_the_process() == before
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_num_threads(1)


@pytest.mark.slow
def test_a_wandb_run_of_the_callers_stays_theirs_and_open(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    mine = wandb.init(dir=str(tmp_path), settings=wandb.Settings(silent=True))
    try:
        folder = run(*SMALL, "record=default", quiet=True).folder
        assert list(folder.glob("wandb/offline-run-*/*.wandb"))
        assert wandb.run is mine
        mine.log({"loss": 1.0})
        assert mine.summary["loss"] == 1.0
    finally:
        mine.finish()


def test_two_threads_run_one_after_the_other_and_both_are_right(made: Result) -> None:
    found: dict[int, Result] = {}

    def work(seed: int) -> None:
        found[seed] = run(*SMALL, f"seed={seed}", "paths.outputs=outputs", quiet=True)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    own = rows(made.folder / "rounds.jsonl")
    for seed in (0, 1):
        keys = [row["training_key"] for row in rows(found[seed].folder / "rounds.jsonl")]
        assert keys == [row["training_key"] for row in own if row["seed"] == seed]


def test_a_composed_run_can_be_read_and_is_what_runs(tmp_path: Path) -> None:
    (tmp_path / "my yaml/experiment").mkdir(parents=True)
    (tmp_path / "my yaml/experiment/mine.yaml").write_text(
        "# @package _global_\nname: mine-${hydra:runtime.choices.model}\nseed: 7\n"
    )
    small = [word for word in SMALL if not word.startswith("name=")]
    one = compose("+experiment=mine", *small, config_dir="my yaml")
    assert one.config.seed == 7
    assert str(one).startswith(f"lth-run --config-dir '{tmp_path}/my yaml' +experiment=mine")
    with pytest.raises(Exception, match=r"read-only"):
        one.config.seed = 8
    result = run(one, quiet=True)
    assert result.folder.parent == Path("outputs/mine-mlp")
    with pytest.raises(UserError, match="is run alone"):
        run(one, "seed=8")
    with pytest.raises(UserError, match="config_dir='none' is no folder"):
        compose(config_dir="none")


def test_a_run_shows_what_the_command_line_shows_and_quiet_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(*SMALL)
    shown = capsys.readouterr().out.splitlines()
    assert shown[1] == "engine   sequential (asked for)"
    theirs = lth_run(*SMALL, "paths.outputs=theirs").out.replace("theirs/", "outputs/")
    logged = (
        "engine ",
        "prunable ",
        "plan ",
        "time ",
        "disk ",
    )  # which pytest takes in the place of a command's own handler
    assert [line for line in shown if not line.startswith(logged)] == theirs.splitlines()
    run(*SMALL, "seed=1", quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_result_has_rows_curve_verdict_and_tickets(made: Result) -> None:
    assert Result(made.folder.parent).folder == made.folder
    assert "seeds" in made.verdict or "ticket" in made.verdict
    assert made.verdict.split(".")[0] in " ".join(str(made).split())
    assert made.value is not None
    assert made.curve().axes
    assert not made.diverged
    sparsest = rows(made.folder / "rounds.jsonl")[-1]["sparsity"]
    last = made.ticket()
    assert last.mask.sparsity == pytest.approx(sparsest)
    assert made.ticket(1 - sparsest).mask == last.mask
    assert made.ticket(round=1, arm="reinit", seed=1).facts["seed"] == 1
    for name, value in made.module(round=2).named_parameters():
        assert torch.equal(value, last.weights[name])
    with pytest.raises(UserError, match=r"density 2 is not in \(0, 1\]"):
        made.ticket(2)
    with pytest.raises(UserError, match="give one of them"):
        made.ticket(0.5, sparsity=0.5)
    with pytest.raises(UserError, match=r"no round of density 0\.123 .* has round 0 \(density 1\)"):
        made.ticket(0.123)
    with pytest.raises(UserError, match="round and density each choose"):
        made.ticket(0.1, round=3)


def test_rows_are_a_data_frame_or_say_what_is_missing(made: Result) -> None:
    with mock.patch.dict(sys.modules, pandas=None), pytest.raises(UserError, match="notebook"):
        _ = made.rows
    pytest.importorskip("pandas")
    written = rows(made.folder / "rounds.jsonl")
    assert len(made.rows) == len(written)
    assert set(made.rows.columns) == {key for row in written for key in row}


@pytest.mark.parametrize(
    ("seeds", "more", "told"),
    [
        ([0, 2], {}, "seeds in a row"),
        ([], {}, "at least one"),
        ([0], {"name": "a/b"}, "a/b"),
        ([0], {"tolerance": "much"}, "tolerance"),
        ([0], {"recipe": small.recipe(batch_size=1000)}, "batch"),
    ],
)
def test_parts_that_do_not_fit_are_refused_before_a_training(
    seeds: list[int], more: dict[str, Any], told: str
) -> None:
    tasks = [small.task(seed=seed) for seed in seeds]
    experiment = lth_runner.Experiment(tasks, small.imp(), lth_runner.Static(), {}, [])
    with pytest.raises(UserError, match=told), no_training():
        lth_runner.run_parts(experiment, **{"recipe": small.recipe(), "name": "a", **more})
    assert not Path("outputs").exists()


def test_a_widget_is_shown_wherever_stderr_leads_and_a_bar_of_text_is_not() -> None:
    assert is_of_a_notebook(tqdm.notebook.tqdm)
    assert not is_of_a_notebook(console.tqdm)


def test_everything_public_is_one_import_away_and_none_of_it_is_loaded_by_it() -> None:
    assert set(api.__all__) == lth_runner.OFFERED
    assert set(dir(lth_runner)) >= lth_runner.OFFERED
    for name in lth_runner.OFFERED:
        assert getattr(lth_runner, name) is getattr(api, name)
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        _ = lth_runner.runn
    text = "import sys, lth_runner, lth_runner.values, json; print(json.dumps(list(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", text], capture_output=True, check=True).stdout
    assert not {"torch", "hydra", "numpy", "matplotlib", "lth_runner.api"} & set(json.loads(out))


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda made: Result(None), "Result(None): give a run folder"),
        (lambda made: made.ticket("x"), "density 'x' is no number"),
        (lambda made: made.ticket(round="2"), "round='2': give a whole number"),
        (lambda made: made.ticket(sparsity="0.5"), "sparsity '0.5' is no number"),
        (lambda made: run(seed=1), "run(seed=...): keys of the config are words"),
        (lambda made: compose(config_dir=3), "config_dir=3: give the path of a folder"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_told_in_one_message(
    call: Callable[[Result], Any], told: str, made: Result
) -> None:
    with pytest.raises(UserError, match=re.escape(told)):
        call(made)


def test_a_mistake_is_shown_without_the_way_to_where_it_was_found() -> None:
    with pytest.raises(UserError) as raised:
        run(*SMALL, "dataset.num_train=1")
    assert raised.value.__cause__ is None
    assert len(raised.traceback) < 8
