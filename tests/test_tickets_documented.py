"""docs/tickets.md as written: its commands run, one after another, in a user's folder."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from command import folders, lth_run, rows
from documents import commands, workshop_of
from lth_runner.cli.conf_dir import conf_dir

TEXT = (Path(__file__).parents[1] / "docs/tickets.md").read_text()
QUICK = [
    "max_samples=96", "train.batch_size=32", "train.shrink_to=8it", "replicates=1",
    "probe=none", "device=cpu", "threads=1",
]  # fmt: skip
ROUNDS = ["pruner.sparsity=null", "pruner.rounds=3"]  # of the run that tickets are taken from


@pytest.mark.slow
def test_the_commands_of_the_document_run_as_written(tmp_path: Path) -> None:
    ran = []
    with workshop_of(TEXT, tmp_path):
        for program, *words in commands(TEXT):
            if program == "python":
                runpy.run_path(words[0])
                continue
            name = words[0].removeprefix("name=")
            small = [*QUICK, *(ROUNDS if name == "first" else [])]
            said = lth_run(*words, *small)
            assert said.status == 0, said.err
            ran.append(name)
    found = {name: rows(folders(tmp_path / "outputs", name)[0] / "rounds.jsonl") for name in ran}
    assert all(not row["diverged"] for own in found.values() for row in own)
    tickets = {name: [row for row in own if row["arm"] == "ticket"] for name, own in found.items()}
    keys = {name: [row["training_key"] for row in own] for name, own in tickets.items()}
    assert keys["again"] == keys["first"]
    assert keys["one"][1:] == [keys["first"][2]] == keys["same"][1:]
    assert all(row["reused"] for row in found["again"])
    assert tickets["head"][1]["layer_density"]["output.weight"] == 1
    assert tickets["open_lth"][1]["sparsity"] == pytest.approx(0.8, abs=0.001)


def test_the_shipped_names_are_told() -> None:
    shipped = {path.stem for path in (conf_dir() / "pruner/rename").glob("*.yaml")}
    assert shipped
    assert all(f"`+pruner/rename={name}`" in TEXT for name in shipped)
