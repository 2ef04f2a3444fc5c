"""The environment variable without which cuBLAS does not repeat its products to the bit."""

from __future__ import annotations

import os

from lth_runner.values.errors import UserError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
REPRODUCIBLE = (":4096:8", ":16:8")  # those of a fixed size, by cuBLAS's documentation


def fix_workspace() -> None:
    """Makes matrix products on CUDA reproducible, unless the environment says something else.

    Torch reads the variable once, at a process's first product on CUDA: call it before that.
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
