"""The working folder's own modules are found, and never in the place of others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from command import SMALL, environ, lth_run, process
from lth_runner.runs.status import retry
from lth_runner.values.search_path import hidden_by, user_code_last

# what the programs, and what they load, import; contextlib and such Python loads before any of ours
SHADOWS = (
    "argparse", "csv", "gzip", "html", "json", "logging", "pathlib", "platform", "random", "shlex",
    "socket", "statistics", "string", "subprocess", "tarfile", "tempfile", "textwrap", "zlib",
    "hydra", "lth_runner", "numpy", "omegaconf", "torch", "tqdm", "yaml",
)  # fmt: skip
NET = """
from torch import nn


class Net(nn.Module):
    def __init__(self, shape, num_classes):
        super().__init__()
        self.output = nn.Linear(shape[0] * shape[1] * shape[2], num_classes)

    def forward(self, x):
        return self.output(x.flatten(1))
"""


def strew(folder: Path, names: tuple[str, ...] = SHADOWS) -> None:
    """Modules with others' names, which leave a file when they are imported."""
    for name in names:
        mark = folder / f"imported-{name}"
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'w').close()\n")


def left_by(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("imported-*"))


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["-m", "lth_runner", "--version"], 0),
        (["-m", "lth_runner", "--help"], 0),
        (["-m", "lth_runner", "--cfg", "job"], 0),
        (["-m", "lth_runner.cli.status", "."], 2),
        (["-m", "lth_runner.cli.report", "."], 2),
    ],
)
def test_modules_of_the_working_folder_stand_in_for_none(
    tmp_path: Path, words: list[str], status: int
) -> None:
    strew(tmp_path, tuple(name for name in SHADOWS if name != "lth_runner"))  # which -m asks for
    done = subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environ(), capture_output=True, text=True
    )
    assert (done.returncode, left_by(tmp_path)) == (status, []), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("program", [("lth-run",), (sys.executable, "-m", "lth_runner")])
def test_a_whole_run_finds_its_own_model_and_none_of_the_shadows(
    tmp_path: Path, program: tuple[str, ...]
) -> None:
    strew(tmp_path, tuple(n for n in SHADOWS if n != "lth_runner" or "-m" not in program))
    (tmp_path / "hydra_plugins").mkdir()
    strew(tmp_path / "hydra_plugins", ("surprise",))
    (tmp_path / "mynet.py").write_text(NET)
    words = [word for word in SMALL if not word.startswith("model")]
    done = subprocess.run(
        [*program, *words, "model=custom", "model._target_=mynet.Net"],
        cwd=tmp_path, env=environ(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (done.returncode, left_by(tmp_path)) == (0, []), done.stderr
    assert not left_by(tmp_path / "hydra_plugins")
    for name in ("lth-status", "lth-report"):
        place = str(Path(sys.executable).with_name(name))
        told = subprocess.run([place, "outputs"], cwd=tmp_path, env=environ(), capture_output=True)
        assert (told.returncode, left_by(tmp_path)) == (0, [])


def test_plugins_of_the_working_folder_are_not_run(tmp_path: Path) -> None:
    (tmp_path / "hydra_plugins").mkdir()
    strew(tmp_path / "hydra_plugins", ("surprise",))
    said = process("--cfg", "job", cwd=tmp_path)
    assert said.status == 0, said.err
    assert not left_by(tmp_path / "hydra_plugins")


def test_launch_runs_this_lth_run_and_none_of_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strew(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert retry.launch(["lth-run --version"]) == 0
    assert not left_by(tmp_path)


# --- the user's own modules


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_user_code_comes_last_and_once(here: Path) -> None:
    others = [place for place in sys.path if place not in ("", str(here))]
    for first in ([], [""], [str(here)]):
        sys.path[:] = [*first, *others]
        for _ in range(2):
            user_code_last()
        assert sys.path == [*others, str(here)]


def small(*words: str) -> tuple[str, ...]:
    return (
        *(w for w in SMALL if not w.startswith("model")),
        "replicates=1",
        "model=custom",
        *words,
    )


@pytest.mark.parametrize("name", ["json", "shlex", "itertools", "yaml"])
def test_a_module_of_ones_own_with_anothers_name_is_refused(here: Path, name: str) -> None:
    (here / f"{name}.py").write_text(NET)
    said = lth_run(*small(f"model._target_={name}.Net"))
    assert said.status == 2
    assert f"model._target_={name}.Net: {name} of the current folder is hidden by" in said.err
    assert "give yours another name" in said.err


def test_an_installed_module_is_not_taken_for_ones_own(here: Path) -> None:
    installed = here / "installed"
    for folder in (here, installed):
        (folder / "both").mkdir(parents=True)
        (folder / "both" / "__init__.py").write_text(NET)
    sys.path.insert(0, str(installed))
    said = lth_run(*small("model._target_=both.Net"))
    sys.modules.pop("both")
    assert said.status == 2
    assert f"both of the current folder is hidden by {installed}" in said.err


def test_what_hides_nothing_is_not_told(here: Path) -> None:
    assert hidden_by("json") is None  # no such file here
    (here / "json.txt").touch()
    (here / "json").mkdir()  # a folder of data
    assert hidden_by("json") is None
    (here / "json.py").touch()
    assert hidden_by("json") == json.__file__
    (here / "sys.py").touch()
    assert hidden_by("sys") == "built-in"
    (here / "only_here.py").touch()
    (here / "installed" / "only_here").mkdir(parents=True)  # no package
    sys.path[:0] = [str(here), str(here / "installed")]
    assert hidden_by("only_here") is None
