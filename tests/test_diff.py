"""`lth-diff` says what differs between two runs, and nothing where nothing does."""

from __future__ import annotations

import json
import shutil

import pytest

from command import SMALL, folders, lth_run
from lth_runner.cli.diff import main


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs that differ in their sparsity alone, made in different folders."""
    found = []
    for word in ("pruner.sparsity=0.5", "pruner.sparsity=0.9"):
        outputs = tmp_path_factory.mktemp("diff")
        lth_run(*SMALL, f"paths.outputs={outputs}", "replicates=1", word)
        found += folders(outputs)
    return found


def told(capsys, *words):
    status = main([*map(str, words)])
    return status, capsys.readouterr().out


def changed(folder, tmp_path, name, change):
    """A copy of a run with other facts in one of its files."""
    copy = tmp_path / "copy" / folder.name
    shutil.copytree(folder, copy)
    facts = json.loads((copy / name).read_text())
    change(facts)
    (copy / name).write_text(json.dumps(facts))
    return copy


def test_a_run_does_not_differ_from_its_copy(runs, tmp_path, capsys):
    copy = changed(runs[0], tmp_path, "environment.json", lambda facts: None)
    status, out = told(capsys, runs[0], copy)
    assert status == 0
    assert out == "no difference in config, code, data, start, machine, result\n"


def test_two_runs_differ_in_what_was_asked_and_what_came_of_it(runs, capsys):
    status, out = told(capsys, *runs)
    assert status == 1
    assert "config  pruner.sparsity" in out
    assert "paths" not in out
    assert "at 50.00 % sparsity" in out
    assert not {"code", "data", "start", "machine"} & {
        line.split(" ")[0] for line in out.split("\n")
    }
    assert "paths.outputs" in told(capsys, *runs, "--all")[1]
    assert told(capsys, *runs, "--only", "data,start,code")[0] == 0


def test_other_data_and_another_machine_are_told(runs, tmp_path, capsys):
    def harm(facts):
        facts["identity"]["data"] = "f" * 64

    copy = changed(runs[0], tmp_path, "problem.json", harm)
    facts = json.loads((copy / "environment.json").read_text())
    (copy / "environment.json").write_text(json.dumps({**facts, "threads": 9}))
    status, out = told(capsys, runs[0], copy)
    assert status == 1
    assert [line.split("  ")[0] for line in out.split("\n")[1:3]] == ["data", "machine"]
    assert "ffffffffffff" in out


def test_other_starting_weights_are_told_with_their_distance(runs, tmp_path, capsys):
    outputs = tmp_path / "outputs"
    lth_run(*SMALL, f"paths.outputs={outputs}", "replicates=1", "model.init=xavier_normal")
    _, out = told(capsys, runs[0], *folders(outputs), "--only", "start")
    assert "weights of seed 0" in out
    assert "apart by" in out


@pytest.mark.parametrize("words", [["nowhere"], ["--only", "colour"]])
def test_a_mistake_has_a_status_of_its_own(words, runs, capsys):
    second = [] if words[0] == "nowhere" else [runs[1]]
    assert main([str(runs[0]), *map(str, second), *words]) == 2
    assert capsys.readouterr().err.startswith("lth-diff: ")
