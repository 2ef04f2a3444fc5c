"""`lth-diff` says what differs between two runs, and nothing where nothing does."""

from __future__ import annotations

import json
import shutil

import pytest

from command import SMALL, folders, lth_run
from lth_runner.cli import status
from lth_runner.cli.diff import main
from lth_runner.runs.diff.lines import config_lines
from lth_runner.runs.evidence.rows import FinishedRun


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


def test_a_sparsity_that_differs_beside_the_pruner_is_told(tmp_path, capsys):
    outputs = tmp_path / "outputs"
    words = ("pruner=imp", "pruner.sparsity=0.5"), ("pruner=snip", "pruner.sparsity=0.9")
    for name, chosen in zip("ab", words, strict=True):
        lth_run(*SMALL, f"paths.outputs={outputs}", "replicates=1", f"name={name}", *chosen)
    lines = told(capsys, outputs / "a", outputs / "b", "--only", "config")[1].split("\n")[1:]
    rows = [tuple(line.removeprefix("config").split()) for line in lines]
    assert ("pruner", "imp", "snip") in rows
    assert ("pruner.sparsity", "0.5", "0.9") in rows
    assert not any("_target_" in row[0] for row in rows if row)


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ([], None, ("[]", "-")),
        (["a"], "a", ("['a']", "'a'")),
        (0.12345678, 0.12345679, ("0.12345678", "0.12345679")),
        ([[1, 2], [3]], [[1, 2], [4]], ("[1, 2], [3]", "[1, 2], [4]")),
    ],
)
def test_values_that_would_look_alike_are_told_apart(first, second, shown, tmp_path):
    a, b = (FinishedRun(tmp_path, {"mine": v, "own": 1}, {}, {}, ()) for v in (first, second))
    [line] = config_lines(a, b, everything=False)
    assert (line.first, line.second) == shown


def test_long_values_are_shown_where_they_part(runs, tmp_path, capsys):
    def harm(facts):
        facts["platform"] = "x" * 60 + "mine" + "y" * 60

    copy = changed(runs[0], tmp_path / "a", "environment.json", harm)
    other = changed(copy, tmp_path / "b", "environment.json", lambda f: f.update(platform="x" * 60))
    row = told(capsys, copy, other, "--only", "machine")[1].split("\n")[1].split()
    assert row[2].startswith("…xx")
    assert "mine" in row[2]
    assert row[3] == "…" + "x" * 10


def test_a_config_that_is_missing_is_told_once(runs, tmp_path, capsys):
    copy = tmp_path / "copy" / runs[0].name
    shutil.copytree(runs[0], copy)
    (copy / "config.yaml").unlink()
    _, out = told(capsys, copy, runs[1], "--only", "config")
    assert [line.split() for line in out.split("\n")[1:-1]] == [
        ["config", "config.yaml", "missing", "there"]
    ]


def test_a_run_without_a_finished_training_is_told_as_what_it_is(runs, tmp_path, capsys):
    folder = tmp_path / "mine" / "run"
    folder.mkdir(parents=True)
    (folder / "status.json").write_text(json.dumps({"state": "failed", "error": "no disk"}))
    assert main([str(folder), str(runs[0])]) == 2
    err = capsys.readouterr().err
    assert err == f"lth-diff: none of its trainings has ended: {folder} has failed: no disk\n"


def test_a_run_that_a_link_beside_it_leads_to_is_one_run(runs, tmp_path, capsys):
    copy = tmp_path / "mine" / runs[0].name
    shutil.copytree(runs[0], copy)
    (tmp_path / "mine" / "a_link").symlink_to(copy.name)
    assert told(capsys, tmp_path / "mine", runs[0])[0] == 0
    assert status.main([str(tmp_path / "mine")]) == 0
    assert "1 point: 1 done" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["nowhere"], ["--only", "colour"]])
def test_a_mistake_has_a_status_of_its_own(words, runs, capsys):
    second = [] if words[0] == "nowhere" else [runs[1]]
    assert main([str(runs[0]), *map(str, second), *words]) == 2
    assert capsys.readouterr().err.startswith("lth-diff: ")


@pytest.mark.parametrize(
    ("name", "content", "cure"),
    [
        ("config.yaml", "- 1\n", "The run's command writes it again from the Store."),
        ("rounds.jsonl", '"x"\n{}\n', "remove this line, or run the experiment again"),
    ],
)
def test_a_file_of_something_else_is_told_with_what_mends_it(
    runs, tmp_path, capsys, name, content, cure
):
    copy = changed(runs[0], tmp_path, "environment.json", lambda facts: None)
    (copy / name).write_text(content)
    assert main([str(copy), str(runs[0])]) == 2
    assert cure in capsys.readouterr().err
