"""The ``~`` of a path, for the folder that a user's own files lie in."""

from __future__ import annotations

from pathlib import Path

from lth_runner.values.errors import UserError


def from_home(path: str | Path) -> Path:
    """Returns a path with a leading ``~`` or ``~name`` as that user's folder.

    Raises UserError where this system knows no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        user = Path(path).parts[0]
        raise UserError(
            f"{path}: this system knows no home folder of {user}: give the whole path"
        ) from error
