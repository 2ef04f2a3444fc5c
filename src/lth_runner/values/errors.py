"""The exceptions that a user is told of in one message."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can mend.

    Its message says what was wrong, the value, what is accepted and what to do.
    """


class UnderWay(UserError):
    """Says that another process is working on this run."""


class RankLost(Exception):
    """Says that another of the processes that train together has ended, or cannot go on."""


class Damaged(Exception):
    """Says that a file is not what was written: truncated, flipped bits, or no file of ours."""


FEW = 8  # names that are listed even where one is near
MOST = 60  # names that are all listed where none is near


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggests the known names that are nearest to a mistyped one.

    All known names are listed where there are few of them, or none is near; of more than ``MOST``
    those that are least unlike it.
    """
    names = sorted(known)
    accepted = f"accepted: {', '.join(names)}"
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        said = f"did you mean {' or '.join(close)}?"
        return f"{said} ({accepted})" if len(names) <= FEW else said
    if len(names) > MOST:
        least_unlike = difflib.get_close_matches(name, names, n=FEW, cutoff=0.0)
        return f"accepted: {', '.join(least_unlike)} and {len(names) - len(least_unlike)} more"
    return accepted
