"""An option whose help is made when it is shown, as Hydra 1.3 has one, where argparse reads it."""

from __future__ import annotations

import argparse
import sys

import pytest

from lth_runner.cli.lazy_help import CHECK, help_as_text


class Late:
    def __repr__(self) -> str:
        return "100 % late"


def made() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="x")
    parser.add_argument("--late", action="store_true", help=Late())
    return parser


def strict(container: argparse.ArgumentParser, action: argparse.Action) -> None:
    """As Python 3.14 reads each help at once."""
    if action.help and "%" in action.help:
        action.help % {"prog": "x"}


def test_a_help_that_is_no_text_becomes_one_and_what_was_there_comes_back(monkeypatch) -> None:
    monkeypatch.setattr(argparse._ActionsContainer, CHECK, strict, raising=False)
    with help_as_text():
        parser = made()
        for action in parser._actions:  # as Python 3.14 does when it is made
            getattr(parser, CHECK)(action)
        assert "100 % late" in parser.format_help()
    assert CHECK not in vars(argparse.ArgumentParser)


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="argparse reads help texts there")
def test_before_python_3_14_nothing_is_changed() -> None:
    with help_as_text():
        assert CHECK not in vars(argparse.ArgumentParser)
