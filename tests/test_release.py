"""What a release says of itself is the same everywhere, and where it cannot run it says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

import lth_runner

ROOT = Path(__file__).parents[1]


def test_the_version_is_the_same_everywhere():
    version = lth_runner.__version__
    assert f'version = "{version}"' in (ROOT / "pyproject.toml").read_text()
    assert f"Version {version}." in (ROOT / "README.md").read_text()
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version


def test_windows_is_refused_in_one_message_that_names_what_to_do():
    code = "import sys; sys.platform = 'win32'; import lth_runner"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert said.returncode == 1
    assert said.stderr.splitlines()[-1].startswith("ImportError: lth-runner runs on Linux")
    assert "WSL" in said.stderr


def test_what_the_container_is_made_from_is_let_in():
    recipe = (ROOT / "Dockerfile").read_text()
    copied = {word for line in recipe.splitlines() if line.startswith("COPY")
              for word in line.split()[1:-1]}  # fmt: skip
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    assert copied == let_in
    assert all((ROOT / name).exists() for name in copied)
