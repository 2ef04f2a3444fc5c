"""Lottery Ticket Hypothesis experiments, which train, prune, rewind and compare."""

import sys
from itertools import pairwise  # in C: no file can stand in for it

__version__ = "0.2.0"


def _is_program() -> bool:
    """Returns whether Python was started as ``python -m lth_runner...`` and is about to run it."""
    asked = (b.split(".")[0] for a, b in pairwise(sys.orig_argv) if a == "-m")
    return sys.argv[:1] == ["-m"] and "lth_runner" in asked  # argv[0] until the module is found


if _is_program():
    from lth_runner.values.search_path import without_working_folder

    without_working_folder()
