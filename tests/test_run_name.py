"""A run's name is a folder below outputs/, and nothing else can be reached by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from command import SMALL, lth_run
from lth_runner.cli.status import main as lth_status
from lth_runner.runs.run_name import check_name
from lth_runner.values.errors import UserError

OUTSIDE = ["..", ".", "a/b", "/tmp/x", "../x", "a\\b", "", "~/x"]
UNSEEN = [".x", "...", ".store"]
OURS = ["store", "sweeps", "Store", "SWEEPS"]
UNREADABLE = ["a\x1b[31mb", "a\nb", "a\n", "a\0b", "a b", "a\u202eb", "a\x9bb", "a\ud800", "$(ls)"]
NO_TEXT = [None, True, 1e5, ["a"], {"a": 1}]


@pytest.mark.parametrize("name", [*OUTSIDE, *UNSEEN, *OURS, *UNREADABLE, *NO_TEXT, "x" * 201])
def test_what_is_no_folder_of_runs_alone_is_refused(name: object) -> None:
    with pytest.raises(UserError, match=r"^name=") as refused:
        check_name(name)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "name", ["digits_imp", "a.b-c+d", "2024", 2024, "ünï", "x" * 200, "stores"]
)
def test_other_names_are_taken(name: object) -> None:
    check_name(name)


@pytest.mark.parametrize("word", ["name=..", "name=.", "name=store", "name=sweeps", "name=a/b"])
def test_a_refused_name_writes_nothing(tmp_path: Path, word: str) -> None:
    said = lth_run(*SMALL, f"paths.outputs={tmp_path}/in/outputs", word)
    assert (said.status, said.err.count("\n")) == (2, 1)
    assert said.err.startswith(f"error: name={word[5:]!r}")
    assert not list(tmp_path.iterdir())


def test_letters_beyond_a_to_z_stand_in_quotes_and_then_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SMALL, "replicates=1", "control=none", f"paths.outputs={tmp_path}"]
    said = lth_run(*words, "name=ünï")
    assert said.status == 2
    quoted = 'name="ünï"'
    assert said.err == f"error: name=ünï: letters beyond a to z stand in quotes: '{quoted}'\n"
    assert lth_run(*words, quoted).status == 0
    assert (tmp_path / "ünï").is_dir()
    assert lth_status([str(tmp_path)]) == 0
    assert "ünï/" in capsys.readouterr().out
