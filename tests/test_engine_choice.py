"""The engine that a run was begun with is the one that it goes on with, whatever has changed."""

from __future__ import annotations

import json
from pathlib import Path
from unittest import mock

import pytest
import torch

import small
from command import SMALL, folders, lth_run, rows
from lth_runner.masking import Static
from lth_runner.training.engines import choose as choosing
from lth_runner.training.engines.choose import choose, chosen_before, needs_trial
from lth_runner.training.engines.cuda_graph_trial import Trial
from lth_runner.values.errors import UserError


def run(outputs: Path, *, compiler: bool, engine: str = "auto") -> tuple[int, str]:
    said = "no C compiler"
    why = mock.patch.object(choosing, "sparse_obstacle", return_value=None if compiler else said)
    with why:
        done = lth_run(*SMALL, f"train.engine={engine}", f"paths.outputs={outputs}")
    return done.status, done.err


def begun_with(folder: Path) -> str:
    return json.loads((folder / "engine.json").read_text())["engine"]


def keys(folder: Path) -> list[str]:
    return [row["training_key"] for row in rows(folder / "rounds.jsonl")]


@pytest.mark.parametrize("engine", ["auto", "packed"])
def test_a_continued_run_takes_the_engine_that_it_was_begun_with(
    tmp_path: Path, engine: str
) -> None:
    assert run(tmp_path, compiler=False, engine=engine) == (0, "")
    (folder,) = folders(tmp_path)
    assert begun_with(folder) == "packed"
    before = keys(folder)
    (folder / "status.json").unlink()
    (folder / "rounds.jsonl").unlink()
    assert run(tmp_path, compiler=True, engine=engine) == (0, "")
    assert folders(tmp_path) == [folder]
    assert begun_with(folder) == "packed"
    assert keys(folder) == before


def test_a_run_whose_engine_cannot_be_had_here_is_refused_unless_it_is_done(
    tmp_path: Path,
) -> None:
    assert run(tmp_path, compiler=True) == (0, "")
    (folder,) = folders(tmp_path)
    assert begun_with(folder) == "sparse"
    assert run(tmp_path, compiler=False) == (0, "")  # nothing is trained
    (folder / "status.json").unlink()
    status, told = run(tmp_path, compiler=False)
    assert status == 2
    assert "begun with the engine sparse, which cannot be had here: no C compiler. Go on " in told
    assert folders(tmp_path) == [folder]


def test_other_engines_asked_for_are_other_runs(tmp_path: Path) -> None:
    for engine in ("auto", "sequential"):
        assert run(tmp_path, compiler=True, engine=engine) == (0, "")
    assert {begun_with(folder) for folder in folders(tmp_path)} == {"sparse", "sequential"}


def test_a_kept_choice_is_read_as_it_was_made_and_needs_no_trial() -> None:
    recipe, task = small.recipe(), small.task()
    choice = choose(recipe, task, Static())
    assert chosen_before(choice.facts, recipe, task, Static()) == choice
    recorded = choosing.Choice("graphed", "why", Trial(None, 7, 3))
    with pytest.raises(UserError, match="engine graphed, which cannot be had here: there is no C"):
        chosen_before(recorded.facts, recipe, task, Static())
    with mock.patch.object(torch, "device", return_value=torch.device("cuda")):
        assert chosen_before(recorded.facts, recipe, task, Static()) == recorded
    with pytest.raises(UserError, match="knows none of that name"):
        chosen_before({"engine": "quantum"}, recipe, task, Static())


@pytest.mark.parametrize("changed", [{"compile": True}, {"cut_dead": True}])
def test_trainings_that_go_one_by_one_by_their_keys_are_tried_on_no_device(changed) -> None:
    task = small.task()
    with mock.patch.object(torch, "device", return_value=torch.device("cuda")):
        assert needs_trial(small.recipe(engine="graphed"), task, Static())
        assert not needs_trial(small.recipe(engine="graphed", **changed), task, Static())
