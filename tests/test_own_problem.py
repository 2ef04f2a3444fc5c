"""docs/own_problem.md as written: a loss, data, a pretrained start and a transform of a user's."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from command import lth_run, rows
from documents import commands, workshop_of

PAGE = (Path(__file__).parents[1] / "docs/own_problem.md").read_text()
QUICK = [
    "record=local", "threads=1", "device=cpu", "probe=none", "train.shrink_to=6it",
    "train.eval_every=100%",
]  # fmt: skip


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("workshop")
    with workshop_of(PAGE, folder):
        yield folder


@pytest.mark.parametrize("words", commands(PAGE), ids=" ".join)
def test_what_the_page_says_runs_as_written(words: list[str], workshop: Path) -> None:
    if words[0] == "python":
        runpy.run_path(words[1])
        return
    assert words[0] == "lth-run"
    control = [] if any(word.startswith("control=") for word in words) else ["control=reinit"]
    said = lth_run(*words[1:], *QUICK, *control)
    assert said.status == 0, said.err


def problem(workshop: Path, name: str) -> dict:
    [folder] = (workshop / "outputs" / name).iterdir()
    return json.loads((folder / "problem.json").read_text())


def test_a_loss_of_ones_own_brings_its_headline(workshop: Path) -> None:
    assert [one["name"] for one in problem(workshop, "huber")["measures"]] == ["mae", "loss"]
    [found] = (workshop / "outputs/huber").glob("*/rounds.jsonl")
    assert all(row["test_mae"] > 0 for row in rows(found))


def test_a_pretrained_start_has_the_files_weights_but_a_head_of_its_own(workshop: Path) -> None:
    letters = load_file(workshop / "letters.safetensors")
    [path] = (workshop / "outputs/from_letters").glob("*/tickets/round-00.safetensors")
    start = load_file(path)
    for name in ("linear1.weight", "linear1.bias", "linear2.weight"):
        assert torch.equal(start[f"weights.{name}"], letters[name])
    assert start["weights.output.weight"].shape == (10, 100)
    assert problem(workshop, "from_letters")["origin"]["fresh"] == ["output"]
