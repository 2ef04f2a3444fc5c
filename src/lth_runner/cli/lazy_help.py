"""A remedy for Hydra 1.3 on Python 3.14, whose argparse reads help texts as options are made."""

from __future__ import annotations

from argparse import Action, ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager

CHECK = "_check_help"  # what Python 3.14 calls for each option


@contextmanager
def help_as_text() -> Iterator[None]:
    """Turns a help that is no text into one before argparse reads it; nothing before Python 3.14.

    Hydra 1.3 gives its --shell-completion an object that says its text when it is printed, which
    ends every program of Hydra's with "badly formed help string". Hydra 1.4 does not.
    """
    check = getattr(ArgumentParser, CHECK, None)
    if check is None:
        yield
        return

    def check_as_text(parser: ArgumentParser, action: Action) -> None:
        if action.help is not None and not isinstance(action.help, str):
            action.help = str(action.help).replace("%", "%%")
        check(parser, action)

    setattr(ArgumentParser, CHECK, check_as_text)
    try:
        yield
    finally:
        delattr(ArgumentParser, CHECK)  # and the inherited one is there again
