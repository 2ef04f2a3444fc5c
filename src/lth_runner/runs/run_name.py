"""The name of a run, which is its folder below ``outputs/`` and nothing else."""

from __future__ import annotations

import re

from lth_runner.values.errors import UserError

TAKEN = frozenset({"store", "sweeps"})  # folders of ours beside those of the names
LONGEST = 200  # bytes: a file's name has 255, and more is added to it
_ACCEPTED = "use letters, digits, _ - + and ."


def check_name(name: object) -> None:
    """Raises UserError for what cannot be the name of a folder of runs, and of that alone."""
    if isinstance(name, (bool, float)) or not isinstance(name, (str, int)):
        raise UserError(f"name={name!r} names a folder, so that it must be a text: {_ACCEPTED}")
    text = str(name)
    if not re.fullmatch(r"[\w.+-]+", text):
        raise UserError(f"name={name!r} names a folder: {_ACCEPTED}")
    if text.startswith("."):
        raise UserError(
            f"name={name!r} names a folder, which must lie below paths.outputs and be seen: begin "
            "with something else than a point"
        )
    if text.casefold() in TAKEN:  # on some disks Store and store are one
        raise UserError(
            f"name={name!r}: {' and '.join(sorted(TAKEN))} are folders of lth-run's own beside "
            "those of runs: choose another name"
        )
    if len(text.encode()) > LONGEST:
        raise UserError(f"name={text[:20]!r}... is too long for a folder: {LONGEST} bytes at most")
