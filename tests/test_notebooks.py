"""The notebooks of docs/notebooks: each runs from its first cell to its last."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from second_proofs import mostly_slow

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs/notebooks").glob("*.ipynb"))
SHORT = """
import functools
import lth_runner as lth

lth.run = functools.partial(lth.run, "train.shrink_to=20it")
lth.Recipe = functools.partial(lth.Recipe, shrink_to="20it")
"""


def executed(path: Path, folder: Path, *, before: str = "") -> list[nbformat.NotebookNode]:
    """Its code cells with their outputs, after a run in a kernel of its own."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    if before:
        notebook.cells.insert(0, nbformat.v4.new_code_cell(before))
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def pictures(cells: list[nbformat.NotebookNode]) -> int:
    return sum("image/png" in one.get("data", {}) for cell in cells for one in cell.outputs)


@pytest.mark.parametrize("path", mostly_slow(NOTEBOOKS, NOTEBOOKS[:1]), ids=lambda path: path.stem)
def test_a_notebook_runs_in_short_trainings(path: Path, tmp_path: Path) -> None:
    assert pictures(executed(path, tmp_path, before=SHORT)) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_as_it_stands(path: Path, tmp_path: Path) -> None:
    assert pictures(executed(path, tmp_path)) >= 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_its_links_lead_somewhere(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    for cell in notebook.cells:
        for target in re.findall(r"\]\(([^)#]+)\)", cell.source):
            assert (path.parent / target).is_file(), target


def test_there_are_three() -> None:
    assert len(NOTEBOOKS) == 3
