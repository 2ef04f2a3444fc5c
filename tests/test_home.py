"""A ``~`` is a user's folder in every path, and one that nobody has is told."""

from __future__ import annotations

from pathlib import Path

import pytest

import lth_runner
from lth_runner.values.errors import UserError
from lth_runner.values.home import from_home


def test_a_path_begins_at_home_where_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert from_home("~/data") == Path("/home/me/data")
    assert from_home("a/~b") == Path("a/~b")


def test_a_user_that_is_not_there_is_told() -> None:
    with pytest.raises(UserError, match=r"~no-such-user/data: .* no home folder of ~no-such-user"):
        from_home("~no-such-user/data")


def test_no_other_module_follows_a_home_folder_by_itself() -> None:
    source = Path(lth_runner.__file__).parent
    asks = [file.name for file in source.rglob("*.py") if "expanduser" in file.read_text()]
    assert asks == ["home.py"]
