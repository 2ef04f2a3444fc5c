"""What trains all that is behind the results anew: which commands, their cost, what they lack."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from lth_runner.runs.evidence.rows import FinishedRun

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import anew
import merged
from anew import Command, commands, plan, train
from claim import Claim
from costs import hours, made
from evidence import archived, readable
from judged import Row

ARCHIVE = Path(__file__).parents[1] / "docs/runs"


def run(folder: str, name: str, seconds: float, reused: str = "", **config) -> FinishedRun:
    rows = [{"round": 0, "arm": "ticket", "seed": 0, "seconds": seconds, "density": 1.0,
             "training_key": folder}]  # fmt: skip
    if reused:
        rows += [{"round": 1, "arm": "ticket", "seed": 0, "seconds": 7200, "density": 0.5,
                  "training_key": reused, "reused": True}]  # fmt: skip
    status = {"state": "done", "command": f"lth-run +experiment={name} seed={folder}"}
    return FinishedRun(Path(folder), {"name": name, **config}, status, {}, tuple(rows))


def row(command: str, *runs: FinishedRun) -> Row:
    def nothing(_: Mapping[str, FinishedRun]) -> None:
        return None

    claim = Claim("id", "", "", "", command, {one.name: (one.name, None) for one in runs}, nothing)
    return Row(claim, found=object(), runs=runs)  # type: ignore[arg-type]


def test_a_run_is_made_once() -> None:
    one, two = run("1", "a", 1800), run("2", "a", 3600)
    found = made([row("lth-run +experiment=a", one), row("lth-run +experiment=a", one, two)], [])
    alone = {command: hours(runs) for command, runs in found.items() if runs}
    assert alone == {
        "lth-run +experiment=a seed=1": 0.5, "lth-run +experiment=a seed=2": 1.0,
    }  # fmt: skip


def test_a_training_counts_once_as_where_it_was_done_or_else_as_it_is_told() -> None:
    done, shares, again = run("1", "a", 1800), run("2", "a", 3600, reused="1"), run("1", "b", 999)
    assert hours([done, shares, again]) == hours([again, shares, done]) == 1.5
    assert hours([shares]) == 3.0


def test_a_study_has_the_runs_of_its_name_that_no_other_command_made() -> None:
    read, beside, other = run("1", "a", 3600), run("2", "a", 3600), run("3", "b", 3600)
    found = made([row("lth-run +study=a", read)], [read, beside, other])
    assert found["lth-run +study=a"] == [read, beside]


def test_all_commands_of_the_page_can_be_read_and_their_hours_are_all_of_them() -> None:
    every = readable(archived(ARCHIVE))
    found = commands(every, [], [])
    runs = [run for one in found for run in one.runs]
    assert len({(run.name, run.folder.name) for run in runs}) == len(runs)
    assert {shlex.split(one.text)[0] for one in found} == {"lth-run", "python"}
    [total] = [line for line in plan(found).splitlines() if "in all" in line]
    assert total.split()[0] == f"{hours(runs):.2f}"


def test_what_a_command_lacks_is_told_and_what_is_given_ends_it() -> None:
    images = {"dataset": {"_target_": "lth_runner.data.imagefolder", "root": "cifar10-jpeg"}}
    model = {"model": {"path": "smollm2"}}
    bare = Command("lth-run +experiment=a", (run("1", "a", 1, **images), run("2", "a", 1, **model)))
    assert "dataset.root=" in bare.lacks
    half = Command(bare.text, bare.runs, ("dataset.root=/x",))
    assert "model.path=" in half.lacks
    assert "smollm2" in half.lacks
    assert not Command(bare.text, bare.runs, ("dataset.root=/x", "model.path=/y")).lacks


@pytest.mark.parametrize(
    ("words", "lacks"),
    [
        ("+study=a", ""),
        ("+study=a dataset=imagefolder", "dataset.root=FOLDER, the images"),
        ("+study=a +dataset@probe.b.other=imagefolder", "probe.b.other.root=FOLDER, the images"),
        ("model=hf model.path=smollm2", "model.path=FOLDER, the pretrained model smollm2"),
        (
            "+experiment=a model.path=model",
            "model.path=FOLDER, the pretrained model model (conf/experiment/a.yaml says which)",
        ),
    ],
)
def test_what_the_words_of_a_command_without_runs_ask_for_is_lacking(
    words: str, lacks: str
) -> None:
    assert Command(f"lth-run {words}", ()).lacks == lacks


def test_given_words_take_the_place_of_the_commands_own() -> None:
    one = Command("lth-run +experiment=a model.path=there 'control=[a,b]'", (), ("model.path=/y",))
    words = one.words(["record=local"])
    assert words[3:-1] == ["+experiment=a", "control=[a,b]", "model.path=/y", "record=local"]


def test_a_script_reads_where_the_runs_before_it_wrote() -> None:
    there = Path("/there")
    assert Command("lth-run +study=a", ()).words([], there)[-1] == "paths.outputs=/there"
    script = Command("python scripts/merged.py outputs/a --tasks b", ())
    assert script.words(["record=local"], there)[1:] == [
        "scripts/merged.py", "/there/a", "--tasks", "b",
    ]  # fmt: skip


def test_a_run_that_starts_from_others_finds_them_where_they_were_written_before() -> None:
    texts = [one.text for one in commands(readable(archived(ARCHIVE)), [], ["cipher"])]
    assert [text.split()[1] for text in texts] == [
        f"+experiment=cipher_{one}" for one in ("pretraining", "ks_lottery", "full")
    ]
    assert texts[1].endswith(" origin.run=outputs/cipher_pretraining")
    words = Command(texts[1], ()).words([], Path("/there"))
    assert "origin.run=/there/cipher_pretraining" in words


def test_what_finds_nothing_to_merge_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert merged.main([str(tmp_path)]) == 2
    assert "holds no runs" in capsys.readouterr().err
    (tmp_path / "1").mkdir()
    (tmp_path / "1/rounds.jsonl").write_text('{"round": 0, "arm": "ticket", "seed": 0}\n')
    assert merged.main([str(tmp_path), "--tasks", "sst2", "trec"]) == 2
    assert "no seed of" in capsys.readouterr().err


def test_a_command_that_fails_is_named_and_the_others_are_run(capsys: object) -> None:
    found = [Command("lth-run a", ()), Command("lth-run b", ()),
             Command("lth-run c", (run("1", "c", 1, model={"path": "m"}),))]  # fmt: skip
    ran: list[str] = []

    def execute(words: list[str]) -> int:
        ran.append(words[3])
        return 3 if words[3] == "a" else 0

    wrong = train(found, [], execute)
    assert ran == ["a", "b"]
    assert wrong[0] == "failed with exit 3: lth-run a"
    assert wrong[1].startswith("left out, lacks model.path=")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--only", "lenet3000"], "'lenet3000'"),
        (["--for", "minilm"], "--for minilm says no words"),
        (["digits_strong"], "'digits_strong' is no word for runs"),
        (["--for", "minilm", "model"], "'model' is no word for runs"),
        (["--", "paths.outputs=/x"], "--outputs /x"),
        (["--outputs", __file__], "is no folder"),
        (["--archive", "none"], "none is no folder"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert anew.main(["--archive", str(ARCHIVE), "--outputs", "none", *words]) == 2
    assert told in capsys.readouterr().err


def test_an_interruption_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(words: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(anew, "commands", lambda *_: [Command("lth-run a", ())])
    monkeypatch.setattr(anew, "_execute", interrupted)
    assert anew.main(["--archive", str(ARCHIVE), "--outputs", "none", "--train"]) == 130
    assert capsys.readouterr().err == "anew: interrupted; the same call goes on\n"
