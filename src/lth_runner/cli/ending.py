"""How a command ends: what it says of an error, and the exit status that tells which kind it was.

Status 0: all is well, 1: a bug, 2: a mistake of whoever typed it, 3: diverged, 130: interrupted.
"""

from __future__ import annotations

import os
import sys

from lth_runner.cli.conf_dir import conf_dir
from lth_runner.values.errors import RankLost
from lth_runner.values.terminal import show

EXIT_BUG, EXIT_USER, EXIT_DIVERGED, EXIT_INTERRUPTED = 1, 2, 3, 130
TOLD = "told"  # what a KeyboardInterrupt carries of which has been told
DIVERGED = (
    "a ticket diverged: its loss became NaN or infinite, and its replicate has no later rounds; a "
    "lower train.optimizer.lr, or train.clip_norm, may keep it finite"
)


def traceback_wanted() -> bool:
    """Whether errors are to show where they come from."""
    return bool(os.environ.get("LTH_TRACEBACK"))


def tell(error: Exception) -> int:
    """Prints what went wrong in one message, and returns the exit status."""
    from lth_runner.cli.messages import MISTAKES, explain, explain_bug, is_ours

    # what Hydra cannot compose is the command's or a yaml's, whatever it raises
    known = isinstance(error, MISTAKES) or not is_ours(error)
    message = explain(error, conf_dir(), sys.argv[1:]) if known else explain_bug(error)
    show(f"error: {message}", sys.stderr)
    return EXIT_USER if known and not isinstance(error, RankLost) else EXIT_BUG
