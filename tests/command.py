"""`lth-run` as tests call it: in this process, or as one of its own."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from omegaconf import DictConfig

from lth_runner.cli import main as cli
from lth_runner.cli.build import Parts, build
from lth_runner.cli.check import check
from lth_runner.runs.pages.drawn import sealed

# some hundred weights, two rounds, eight steps a training, one after the other: which engine goes
# best with a problem is tried for longer than that
SMALL = (
    "+scale=smoke",
    "dataset=synthetic",
    "dataset.num_train=120",
    "dataset.num_test=60",
    "model=mlp",
    "model.widths=[8]",
    "train=sgd",
    "train.optimizer.lr=0.1",
    "control=[reinit]",
    "probe=none",
    "device=cpu",
    "threads=1",
    "train.shrink_to=8it",
    "train.engine=sequential",
    "name=small",
)
PROGRAM = str(Path(sys.executable).with_name("lth-run"))


@dataclass(frozen=True)
class Said:
    """What a command left: exit status, stdout, stderr."""

    status: int
    out: str
    err: str


# the smallest PNG, a pixel
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@contextlib.contextmanager
def without_pictures() -> Iterator[None]:
    """Runs leave a pixel in the place of pictures, whose drawing takes longer than all else."""

    def leave(folder: Path) -> tuple[Path, Path]:
        files = folder / "curve.png", folder / "report.html"
        for file, content in zip(files, (PICTURE, sealed("a page")), strict=True):
            file.write_bytes(content)
        return files

    with mock.patch("lth_runner.cli.launch.write", leave):
        yield


def lth_run(
    *arguments: object, environment: dict[str, str] | None = None, pictures: bool = False
) -> Said:
    """Runs a command in this process; ``pictures``: with those that it draws."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    words = [*map(str, arguments)]
    # Hydra composes all once more to see whether a config makes itself a sweep: none here does
    once = mock.patch("hydra._internal.hydra.Hydra.get_mode", return_value=None)
    with (
        contextlib.nullcontext() if pictures else without_pictures(),
        contextlib.nullcontext() if any("hydra." in word for word in words) else once,
        mock.patch.object(sys, "argv", ["lth-run", *words]),
        mock.patch.object(sys, "path", list(sys.path)),
        mock.patch.dict(os.environ, {"WANDB_MODE": "disabled", **(environment or {})}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Said(status, out.getvalue(), err.getvalue())


def parts_of(config: DictConfig) -> Parts:
    """What a config stands for, checked and built."""
    return build(check(config))


def environ(**changed: str) -> dict[str, str]:
    """The environment of a process of its own."""
    beside = f"{Path(PROGRAM).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    fixed = {"PATH": beside, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    return {**os.environ, **fixed, **changed}


def process(*arguments: object, cwd: Path, **changed: str) -> Said:
    """Runs a command as a process of its own."""
    done = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=environ(**changed),
        capture_output=True,
        text=True,
        timeout=300,  # a busy machine starts a program late
    )
    return Said(done.returncode, done.stdout, done.stderr)


def folders(outputs: Path, name: str = "small") -> list[Path]:
    """The run folders of a name."""
    return sorted((outputs / name).iterdir())


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a jsonl file, which must be JSON to the letter: no NaN, no Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]


def untimed(path: Path) -> list[dict[str, Any]]:
    """The rows of a jsonl file without what is timed anew when a row is written again."""
    return [{k: v for k, v in row.items() if k != "search_seconds"} for row in rows(path)]


def status_of(folder: Path) -> dict[str, Any]:
    """A run's status.json."""
    return json.loads((folder / "status.json").read_text())


@contextlib.contextmanager
def no_training() -> Iterator[None]:
    """Makes every training an error; replays for a probe are none."""
    with mock.patch(
        "lth_runner.training.loop.Loop.outcome", side_effect=AssertionError("it trained")
    ):
        yield


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: when it was written, what it holds."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }
