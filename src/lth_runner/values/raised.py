"""What an exception says, and the line that raised it."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

OURS = str(Path(__file__).parents[1])


def reason_of(error: BaseException) -> str:
    """Returns the first line of what an exception says, or its type where it says nothing.

    A colon that leads to further lines is left out.
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(": ")


def first_line(error: BaseException) -> str:
    """Returns the first line of what an exception says, and its type."""
    lines = str(error).strip().splitlines()
    return f"{lines[0] if lines else ''} ({type(error).__name__})".strip()


def raised_at(error: BaseException) -> str:
    """Finds the innermost line of the user's code or of ours."""
    where = innermost(error)
    return "" if where is None else f", at {where.filename}:{where.lineno}"


def innermost(error: BaseException) -> traceback.FrameSummary | None:
    """Finds the innermost frame of the user's code or of ours; None where there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    libraries = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    for frame in reversed(frames):
        if frame.filename.startswith(OURS) or not frame.filename.startswith((*libraries, "<")):
            return frame
    return None
