"""Lottery Ticket Hypothesis experiments, which train, prune, rewind and compare.

``run`` and ``compose`` do in a call what ``lth-run`` does, ``Result`` reads what came of it, and
the parts of an experiment can be put together by hand. All of it is in ``lth_runner.api``, which
loads torch, and is loaded when one of its names is asked for.
"""

import sys
from itertools import pairwise  # in C: no file can stand in for it

TYPE_CHECKING = False  # taken for true by type checkers; a file could stand in for typing's
if TYPE_CHECKING:
    from lth_runner.api import *  # noqa: F403

__version__ = "0.2.0"

if sys.platform == "win32":  # told here, and not by an attribute that is not there
    raise ImportError(
        "lth-runner runs on Linux and on macOS, and not on Windows itself: it needs POSIX signals "
        "and files (SIGHUP, O_NOFOLLOW, folders by handle). Use it in WSL, the Linux within Windows"
    )


def _is_program() -> bool:
    """Returns whether Python was started as ``python -m lth_runner...`` and is about to run it."""
    asked = (b.split(".")[0] for a, b in pairwise(sys.orig_argv) if a == "-m")
    return sys.argv[:1] == ["-m"] and "lth_runner" in asked  # argv[0] until the module is found


if _is_program():
    from lth_runner.values.search_path import without_working_folder

    without_working_folder()

# of lth_runner.api, which holds the same list
OFFERED = frozenset({
    "AtInit", "Composed", "Covers", "CrossEntropy", "Data", "Delta", "EarlyBird", "Experiment",
    "FlipCrop", "Geometric", "Given", "Global", "Grasp", "Iterative", "Job", "LayerWise", "Learned",
    "LowRank", "Magnitude", "MapStyle", "Mask", "Measure", "MultiLabel", "NextToken", "Objective",
    "Performance", "Recipe", "Reinit", "Result", "Rewind", "SampledData", "Shuffle", "Signs",
    "Slot", "Snip", "SquaredError", "Static", "Store", "Synflow", "Task", "Tokens", "Trainer",
    "Uniform", "UserError", "compose", "load_ticket", "read_ticket", "run", "run_parts",
    "save_ticket", "shrink", "write_state",
})  # fmt: skip


def __getattr__(name: str) -> object:
    """Loads what is asked for."""
    if name not in OFFERED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("lth_runner.api"), name)


def __dir__() -> list[str]:
    """Lists what can be asked for, for whoever types."""
    return [*globals(), *OFFERED]
