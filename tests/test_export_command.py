"""`lth-export` as it is typed: what it says where it ends early, and what is there then."""

from __future__ import annotations

import errno
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn
from unittest import mock

import pytest

from command import SMALL, lth_run
from lth_runner import export
from lth_runner.cli.export import main
from lth_runner.export.whole_file import finished
from lth_runner.runs.rebuilt import NEEDED, rebuilt
from lth_runner.values.errors import UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("outputs")
    said = lth_run(*SMALL, "record=local", "control=none", f"paths.outputs={root}")
    assert said.status == 0, said.err
    return root / "small"


class Gone(io.StringIO):
    """A stdout whose reader has seen enough."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_what_nobody_reads_is_written_all_the_same(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run), "--as", "csr", "--to", str(tmp_path / "t.safetensors")]
    with mock.patch.object(sys, "stdout", Gone()), mock.patch("lth_runner.cli.stopping.hush"):
        assert main(words) == 0
    assert (tmp_path / "t.safetensors").is_file()
    assert "written  " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (KeyboardInterrupt(), 130, "interrupted; nothing was written{}"),
        (RuntimeError("can't allocate memory: you tried to allocate 9 bytes"), 2,
         "out of memory: 9 bytes more were asked for; nothing was written{}: take smaller --batch"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("with_file", [False, True])
def test_a_report_that_is_broken_off_says_which_file_is_there(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], error: BaseException,
    status: int, told: str, with_file: bool,
) -> None:  # fmt: skip
    file = tmp_path / "t.safetensors"
    words = [str(run), "--report", str(tmp_path / "r.json")]
    words += ["--as", "csr", "--to", str(file)] if with_file else []
    with mock.patch("lth_runner.export.report.measured", side_effect=error):
        assert main(words) == status
    assert told.format(f" besides {file}" if with_file else "") in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == ([file] if with_file else [])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--report {0}", "a report is written to a file *.json"),
        ("--as peft --to {0}saved.json --report saved.json", "write one file: give two names"),
        ("--as peft --to saved.png --report {0}saved.json", "write one file: give two names"),
        (
            "--as csr --to ~no-such-user/t.safetensors",
            "knows no home folder of ~no-such-user: give the whole",
        ),
    ],
)
def test_names_that_no_file_can_have_are_told_before_anything_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: str, told: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    here = "" if words.endswith("{0}") else f"{tmp_path}/"
    with mock.patch("lth_runner.export.ticket", side_effect=AssertionError("built")):
        assert main(["outputs/none", *words.format(here).split(" ")]) == 2
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("word", ["²", "x", "1.5", "", "9" * 5000])
@pytest.mark.parametrize("option", ["--round", "--seed", "--samples", "--batches", "--repetitions"])
def test_what_is_no_whole_number_is_told_as_such(
    capsys: pytest.CaptureFixture[str], option: str, word: str
) -> None:
    with pytest.raises(SystemExit):
        main(["outputs/none", option, word])
    assert f"argument {option}: '{word[:40]}': give a whole number" in capsys.readouterr().err


def _refused(file: Path) -> NoReturn:
    raise PermissionError(errno.EACCES, "Permission denied", str(file))


def test_a_file_that_is_read_for_another_is_named_where_it_cannot_be(tmp_path: Path) -> None:
    target, other = tmp_path / "folder", tmp_path / "model" / "tokenizer.json"
    said = rf"folder cannot be written: {other}: Permission denied"
    with pytest.raises(UserError, match=said), finished(target):
        _refused(other)
    said = r"folder cannot be written: Permission denied$"
    with pytest.raises(UserError, match=said), finished(target) as scratch:
        _refused(scratch / "config.json")


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"code": {"nets.Net": {"#source": "1"}}}, "changed since: the code of nets.Net. Put it"),
        (
            {"code": {"lib.Bert": {"#version": "1"}}},
            "since: the version of the library of lib.Bert. ",
        ),
        ({"data": "1"}, "changed since: the data. "),
    ],
)
def test_what_has_changed_since_a_run_is_called_by_its_own_name(
    tmp_path: Path, part: dict[str, Any], told: str
) -> None:
    (tmp_path / "config.yaml").write_text("".join(f"{key}: 1\n" for key in NEEDED))
    (tmp_path / "problem.json").write_text(json.dumps({"identity": part}))
    other = SimpleNamespace(identity=json.loads(json.dumps(part).replace('"1"', '"2"')))
    with (
        mock.patch("lth_runner.runs.rebuilt.make_task", return_value=other),
        pytest.raises(UserError, match=told),
    ):
        rebuilt(tmp_path)


def test_what_cannot_be_built_again_names_the_run_and_where_its_paths_begin(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("".join(f"{key}: 1\n" for key in NEEDED))
    absent = UserError("model.path=bert: there is no such folder")
    with (
        mock.patch("lth_runner.runs.rebuilt.make_task", side_effect=absent),
        pytest.raises(UserError, match=rf"{tmp_path}: .* built here: model\.path=bert.*call from"),
    ):
        rebuilt(tmp_path)


def test_answers_are_compared_on_one_sample_at_least(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="samples=0: answers are compared on at least 1"):
        export.to_csr(export.ticket(run), tmp_path / "t.safetensors", samples=0)
