"""What cuBLAS needs for the same products twice, which it is told by the environment alone."""

from __future__ import annotations

import os

from lth_runner.values.errors import UserError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
REPRODUCIBLE = (":4096:8", ":16:8")  # those of a fixed size, by cuBLAS's documentation


def fix_workspace() -> None:
    """Has matrix products on CUDA be functions of their inputs, unless the environment says else.

    Torch reads this once, at a process's first product there: call it before any.
    """
    os.environ.setdefault(WORKSPACE, REPRODUCIBLE[0])


def check_workspace() -> None:
    """Raises UserError where the environment lets matrix products on CUDA differ."""
    found = os.environ.get(WORKSPACE)
    if found not in REPRODUCIBLE:
        raise UserError(
            f"train.deterministic=true needs {WORKSPACE}={' or '.join(REPRODUCIBLE)} from the "
            f"start of the process, and it is {found or 'not set'}: set it so, or leave it out"
        )
