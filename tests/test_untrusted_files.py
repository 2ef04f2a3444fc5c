"""One bad folder among many is one line, hangs nothing, and tells a terminal nothing to act on."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from command import SMALL, lth_run
from lth_runner.cli.report import main as lth_report
from lth_runner.cli.status import main as lth_status
from lth_runner.runs.folder import read_flat_config
from lth_runner.runs.status.retry import quoted
from lth_runner.values import json_files, yaml_files
from lth_runner.values.terminal import show_traceback, visible, visible_lines

FILES = ("config.yaml", "status.json", "rounds.jsonl", "problem.json", "environment.json")
EVIL = "\x1b]0;owned\x07\x1b[31mred\x9b2J\r\u202etxt.exe\u2028\ud800"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    outputs = tmp_path_factory.mktemp("finished")
    words = (*SMALL, "replicates=1", "control=none", f"paths.outputs={outputs}")
    assert lth_run(*words).status == 0
    [folder] = (outputs / "small").iterdir()
    return folder


@pytest.fixture
def outputs(finished: Path, tmp_path: Path) -> Path:
    """Two good runs, and one to be spoiled."""
    for name in ("good/1", "good/2", "bad/3"):
        shutil.copytree(finished, tmp_path / "outputs" / name)
    (tmp_path / "outputs" / "store").mkdir()
    (tmp_path / "outputs" / "store" / "format.json").write_text('{"format": 1}')
    return tmp_path / "outputs"


def levels(first: str, link: Callable[[str, str], str]) -> str:
    """Ten lines, each ten times the one before it."""
    pairs = zip("abcdefghi", "bcdefghij", strict=True)
    return f"a: &a {first}\n" + "".join(link(one, next_) for one, next_ in pairs)


BOMBS = {
    "lists": levels("[x, x]", lambda one, n: f"{n}: &{n} [{','.join([f'*{one}'] * 10)}]\n"),
    "mappings": levels(
        "{x: 1}",
        lambda one, n: f"{n}: &{n} {{{', '.join(f'k{i}: *{one}' for i in range(10))}}}\n",
    ),
    "merges": levels(
        "{x: 1}", lambda one, n: f"{n}: &{n}\n  <<: [{', '.join([f'*{one}'] * 10)}]\n"
    ),
    "itself": "a: &a {b: *a}\n",
}


def write(name: str, content: str | bytes) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
        (folder / name).write_bytes(data)

    return harm


def huge(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        with (folder / name).open("wb") as opened:
            opened.truncate(2**40)  # takes no room

    return harm


def pipe(name: str) -> Callable[[Path], None]:
    def harm(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return harm


def nonsense(**facts: Any) -> Callable[[Path], None]:
    return write("status.json", json.dumps(facts))


ROW = '{"round": 0, "arm": "ticket", "seed": 0, "test_accuracy": %s, "sparsity": %s}\n'
HARMS = {
    **{f"{name}: 200,000 [": write(name, "[" * 200_000 + "\n") for name in FILES[1:]},
    **{f"{name}: garbage": write(name, bytes(range(255, 0, -1)) * 20) for name in FILES},
    **{f"{name}: huge": huge(name) for name in FILES},
    **{f"{name}: a pipe": pipe(name) for name in FILES},
    **{f"config.yaml: {kind}": write("config.yaml", text) for kind, text in BOMBS.items()},
    "config.yaml: deep": write("config.yaml", "a: " + "[" * 100_000),
    "config.yaml: no month": write("config.yaml", "a: 2024-99-99\n"),
    "config.yaml: no number": write("config.yaml", "a: !!int ''\n"),
    "config.yaml: a call": write("config.yaml", "a: !!python/object/apply:os.abort []\n"),
    "config.yaml: other kinds": write("config.yaml", "dataset: 3\nreplicates: x\nname: {a: b}\n"),
    "status.json: other kinds": nonsense(
        state="running", name=["x"], command={"a": 1}, rounds=[1], pid=10**30, updated=[], total=[]
    ),
    "status.json: beyond numbers": write(
        "status.json", f'{{"state": "running", "rounds": {"9" * 4000}, "steps": {{"run": 1e999}}}}'
    ),
    "status.json: escapes": nonsense(
        state="failed", name=EVIL, error=EVIL, command=f"lth-run {EVIL}", arm=EVIL, rounds=2
    ),
    "status.json: long": nonsense(state="failed", name="n" * 900_000, error="e" * 50_000),
    "rounds.jsonl: beyond numbers": write(
        "rounds.jsonl", ROW % (1e308, -1e308) + ROW % ("1" * 400, 1)
    ),
    "rounds.jsonl: other kinds": write("rounds.jsonl", ROW % ("{}", "[]")),
    "problem.json: no measure": write(
        "problem.json", '{"measures": [{"name": [1], "better": 7, "scale": "a"}]}'
    ),
}  # fmt: skip


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_bad_folder_is_one_line_of_the_status(
    outputs: Path, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    harm(outputs / "bad" / "3")
    started = time.monotonic()
    for options in ([], ["--retry"], ["--store"]):
        status = lth_status([str(outputs), *options])
        said = capsys.readouterr()
        assert status in (0, 1)
        assert visible_lines(said.out + said.err) == said.out + said.err
        if not options:
            assert said.out.count("/1  ") == said.out.count("/2  ") == 1
            # with its reason where there is one; the sums below
            assert sum("/3" in line for line in said.out.splitlines()) == 1
            assert "3 points: " in said.out
            assert max(map(len, said.out.splitlines())) < 2500
    assert time.monotonic() - started < 60  # a hang, not a speed


@pytest.fixture
def undrawn() -> Any:
    """Pages are worked out and not drawn."""

    def leave(run: Any) -> tuple[Path, Path]:
        from lth_runner.runs.report.run_text import table

        table(run)
        run.metrics()
        return run.folder / "curve.png", run.folder / "report.html"

    with (
        mock.patch("lth_runner.runs.report.run_page.write_run", leave),
        mock.patch("lth_runner.runs.comparisons.compare_runs", return_value=("", [])),
    ):
        yield


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_a_bad_folder_is_one_line_of_the_report(
    outputs: Path, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    harm(outputs / "bad" / "3")
    started = time.monotonic()
    status = lth_report([str(outputs)])
    said = capsys.readouterr()
    assert visible_lines(said.out + said.err) == said.out + said.err
    assert "written: " in said.out  # of the good ones
    if status:  # what makes no difference to a report is not told
        assert status == 2
        assert said.err.count("\n") == 1
        assert said.err.startswith("lth-report: left out: ")
        assert "bad/3" in said.err
    assert time.monotonic() - started < 60  # a hang, not a speed
    alone = lth_report([str(outputs / "bad" / "3")])
    assert (alone, capsys.readouterr().err.count("\n")) in ((0, 0), (2, 1))


def test_what_is_left_out_and_what_is_not(
    outputs: Path, undrawn: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for harm, status in (("config.yaml: lists", 2), ("problem.json: no measure", 2)):
        HARMS[harm](outputs / "bad" / "3")
        assert lth_report([str(outputs)]) == status
        assert "left out" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("harm", [name for name in HARMS if name.startswith(("rounds", "status"))])
def test_a_bad_folder_spoils_no_drawing(outputs: Path, harm: str) -> None:
    HARMS[harm](outputs / "bad" / "3")
    assert lth_report([str(outputs)]) in (0, 2)
    assert (outputs / "comparison.html").exists() or (outputs / "good/comparison.html").exists()


# --- what is read


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_text_that_stands_for_too_much_is_refused_before_it_is_made(text: str) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match=r"more than 100,000 values|within what it repeats"):
        yaml_files.loaded(text)
    assert time.monotonic() - started < 2


def test_aliases_of_a_config_are_read() -> None:
    text = "a: &id001 [1, 2]\nb: *id001\nc: {d: *id001}\n"
    assert yaml_files.loaded(text) == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}}


def test_what_is_nested_too_deeply_is_no_json(tmp_path: Path) -> None:
    for content in (b"[" * 200_000, b'{"a":' * 200_000):
        with pytest.raises(ValueError, match="nested too deeply"):
            json_files.decoded(content)
        (tmp_path / "file").write_bytes(content)
        assert json_files.read_object(tmp_path / "file") is None
        assert list(json_files.objects_from_end(tmp_path / "file")) == []


def test_a_config_that_cannot_be_read_is_empty(tmp_path: Path) -> None:
    for text in (*BOMBS.values(), "a: 2024-99-99", "a: !!int ''"):
        (tmp_path / "config.yaml").write_text(f"{text}\n")
        assert len(str(read_flat_config(tmp_path))) < 10_000


# --- what is shown


def test_nothing_that_a_terminal_acts_on_is_shown() -> None:
    assert visible(EVIL).isprintable()
    assert visible(EVIL).startswith(r"\x1b]0;owned\x07\x1b[31mred\x9b2J\r\u202etxt.exe\u2028\ud800")
    assert visible("a\nb\tc\0\x7f\u200b") == r"a\nb\tc\x00\x7f\u200b"
    assert visible_lines("a\n\tb\r\x1b") == "a\n\tb\\r\\x1b"
    plain = "ünï ± … → 漢字 \u00a0 é"
    assert visible(plain) == plain


def test_escapes_of_a_command_and_of_a_class_folder_are_not_acted_on(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split / "a\x1b[31m").mkdir(parents=True)
    for words in (
        ("dataset=imagefolder", f"dataset.root={tmp_path}"),
        ("name=a\x1b[31mb",),
        ('name="a\x1b[31mb"',),
        ("dataset=synthetic\x1b[31m",),
        ("model=custom", 'model._target_="a\x1b[31m.b"'),
        ("+a\x1b[31m=1",),
    ):
        said = lth_run(*words, f"paths.outputs={tmp_path}/outputs")
        assert said.status == 2
        assert "\x1b" not in said.out + said.err
        assert "\\x1b[31m" in said.err


def test_a_stored_error_and_name_are_shown_with_their_escapes(
    outputs: Path, undrawn: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = outputs / "bad" / "3"
    HARMS["status.json: escapes"](bad)
    config = (bad / "config.yaml").read_text()
    (bad / "config.yaml").write_text(config.replace("name: small", 'name: "\\e[31mred\\nline"'))
    assert lth_status([str(outputs)]) == 1
    assert r"\x1b[31mred" in capsys.readouterr().out
    assert lth_report([str(bad)]) == 0
    assert r"\x1b[31mred\nline  (" in capsys.readouterr().out


# --- what a shell is given


@pytest.mark.parametrize(
    "command",
    ["rm -rf x", "", "lth-run 'a", "lth-run \x1b[31m", "lth-run 'a\nb'", "/tmp/lth-run a=1", "\n"],
)
def test_what_is_no_command_of_ours_is_not_printed(command: str) -> None:
    assert quoted(command) is None


@pytest.mark.parametrize(
    "command",
    [
        "lth-run a=1; touch {mark}",
        "lth-run a=1 && touch {mark}",
        "lth-run $(touch {mark})",
        "lth-run `touch {mark}`",
        "lth-run a=1 | tee {mark}",
        "lth-run > {mark}",
        "lth-run a=1 # {mark}",
        'lth-run "$(touch {mark})"',
        "lth-run pruner.exclude=[output] ~a *",
        "lth-run !! &",
    ],
)
def test_a_stored_command_is_printed_so_that_a_shell_runs_that_alone(
    tmp_path: Path, command: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = command.format(mark=tmp_path / "mark")
    bad = outputs / "bad" / "3"
    nonsense(state="failed", error="x", command=stored)(bad)
    lth_status([str(outputs), "--retry"])
    [line] = capsys.readouterr().out.splitlines()
    program = tmp_path / "bin" / "lth-run"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
    ran = subprocess.run(line, shell=True, env=environment, capture_output=True, text=True)
    assert ran.stdout.splitlines() == shlex.split(stored)[1:]
    assert not (tmp_path / "mark").exists()


def test_a_command_of_another_program_is_left_out_and_told(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = outputs / "bad" / "3"
    nonsense(state="failed", error="x", command="curl x | sh\x1b[8m")(bad)
    assert lth_status([str(outputs), "--retry"]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "bad/3 is left out: it names no lth-run command, but 'curl x | sh\\x1b[8m'" in said.err


def test_points_of_a_sweep_are_read_with_the_same_care(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, content in enumerate(
        (
            b"[" * 200_000,
            bytes(range(255, 0, -1)),
            json.dumps({"command": "lth-run a=1", "name": [1], "run_id": {}}).encode(),
            json.dumps({"command": f"lth-run a={EVIL}", "name": EVIL, "run_id": None}).encode(),
        )
    ):
        folder = outputs / "sweeps" / str(number)
        folder.mkdir(parents=True)
        (folder / "points.jsonl").write_bytes(content + b"\n")
        (folder / "failures.jsonl").write_bytes(content + b"\n")
        (folder / "sweep.json").write_bytes(content)
    (outputs / "sweeps" / "pipe").mkdir()
    os.mkfifo(outputs / "sweeps" / "pipe" / "points.jsonl")
    for options in ([], ["--retry"]):
        assert lth_status([str(outputs), *options]) in (0, 1)
        said = capsys.readouterr()
        assert visible_lines(said.out + said.err) == said.out + said.err


@pytest.mark.parametrize("main", [lth_status, lth_report])
def test_options_that_nobody_knows_are_shown_as_escapes(main, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["outputs", f"--{EVIL}"])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert visible_lines(said) == said
    assert r"\x1b]0;owned" in said


def test_so_are_those_of_a_run_and_the_text_of_a_traceback(capsys) -> None:
    said = lth_run(f"--{EVIL}")
    assert said.status == 2
    assert said.err.startswith(r"error: there is no option --\x1b]0;owned")
    assert visible_lines(said.err) == said.err
    error = ValueError(EVIL)
    show_traceback(type(error), error, None)
    shown = capsys.readouterr().err
    assert visible_lines(shown) == shown
    assert shown.startswith(r"ValueError: \x1b]0;owned")
