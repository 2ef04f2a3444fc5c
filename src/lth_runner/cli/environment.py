"""The environment of a run, which a reader needs beside its config to repeat it."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from lth_runner import __version__
from lth_runner.values.machine import processor


def environment(device: torch.device | str) -> dict[str, Any]:
    """Describes versions, device and code state."""
    device = torch.device(device)
    return {
        "lth_runner": __version__,
        "git": git_state(Path(__file__).parents[1]),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(),
        "host": platform.node(),
    }


def git_state(folder: Path) -> dict[str, Any]:
    """Finds the commit that the code is at and whether it was changed since; nulls outside git."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    changes = git("status", "--porcelain", "--untracked-files=no", "--", ".")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if changes is None else bool(changes)}
