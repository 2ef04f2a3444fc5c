"""The documentation as a site: `make docs`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


def pages(nav: object) -> list[str]:
    """The pages of a navigation, level by level."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages(part)]


def test_every_page_of_docs_has_its_place_in_the_navigation() -> None:
    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    there = [path.name for path in (ROOT / "docs").glob("*.md")]
    there += [f"notebooks/{path.stem}.md" for path in (ROOT / "docs/notebooks").glob("*.ipynb")]
    assert sorted(listed) == sorted(
        [*there, "index.md", "contributing.md", "changelog.md", "names.md"]
    )


@pytest.mark.slow
def test_the_site_is_whole_and_asks_nothing_of_other_machines(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="needs lth-runner[docs]")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    said = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=600)
    assert said.returncode == 0, said.stderr
    written = {path: path.read_text() for path in tmp_path.rglob("*.html")}
    del written[tmp_path / "404.html"]  # its links start at a server's root
    for path, text in written.items():
        assert not re.findall(
            r"<(?:script|img|link|iframe)[^>]*(?:src|href)=\"?(?:https?:)?//", text
        )
        prose = re.sub(r"<(pre|code)\b.*?</\1>", "", text, flags=re.DOTALL)
        if "source" not in path.relative_to(tmp_path).parts:
            assert "```" not in prose, f"{path.name} shows the fence of a block"
        for link in re.findall(r"href=\"([^\"#:?]+)[\"#?]", prose):
            assert (path.parent / link).exists(), f"{path.name} links to {link}"
    index = json.loads((tmp_path / "search/search_index.json").read_text())["docs"]
    found = {entry["location"].split("#")[0] for entry in index if "RigL" in entry["text"]}
    assert "pruners.html" in found
    assert not [entry for entry in index if entry["location"].startswith("source/")]
    assert "class Rewind" in re.sub(r"<[^>]*>", "", written[
        tmp_path / "source/src/lth_runner/search/rewind.py.html"])  # fmt: skip
