"""docs/tickets.md as written: its commands run, one after another, in a user's folder."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from command import folders, lth_run, rows
from documents import commands, workshop_of
from lth_runner.cli.main import conf_dir
from lth_runner.problem.models import lenet300

TEXT = (Path(__file__).parents[1] / "docs/tickets.md").read_text()
QUICK = [
    "max_samples=96", "train.batch_size=32", "train.shrink_to=8it", "replicates=1", "control=none",
    "probe=none", "device=cpu", "threads=1",
]  # fmt: skip
ROUNDS = ["pruner.sparsity=null", "pruner.rounds=3"]  # of the run that tickets are taken from


def a_level_of_open_lth(level: Path) -> None:
    """Their mnist_lenet_300_100 (models/mnist_lenet.py): fc_layers.0, fc_layers.1 and fc."""
    network = lenet300(shape=(1, 28, 28), num_classes=10)
    theirs = {"linear1": "fc_layers.0", "linear2": "fc_layers.1", "output": "fc"}
    state = {
        ".".join([theirs[name.split(".")[0]], name.split(".")[1]]): value
        for name, value in network.state_dict().items()
    }
    level.mkdir(parents=True)
    masks = {n: (torch.rand(v.shape) < 0.2).int() for n, v in state.items() if v.ndim > 1}
    torch.save(masks, level / "mask.pth")
    for step in ("ep0_it0", "ep40_it0"):
        torch.save(state, level / f"model_{step}.pth")


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
            for word in words:
                if word.startswith("pruner.ticket=open_lth_data"):
                    a_level_of_open_lth(Path(word.removeprefix("pruner.ticket=")))
            # of the size of MNIST, and at hand
            said = lth_run(*(w.replace("dataset=mnist", "dataset=digits28") for w in words), *small)
            assert said.status == 0, said.err
            ran.append(name)
    found = {name: rows(folders(tmp_path / "outputs", name)[0] / "rounds.jsonl") for name in ran}
    assert all(not row["diverged"] for own in found.values() for row in own)
    keys = {name: [row["training_key"] for row in own] for name, own in found.items()}
    assert keys["again"] == keys["first"]
    assert keys["one"][1:] == [keys["first"][2]] == keys["same"][1:]
    assert all(row["reused"] for row in found["again"])
    assert found["head"][1]["layer_density"]["output.weight"] == 1
    assert found["open_lth"][1]["layer_density"]["linear1.weight"] == pytest.approx(0.2, abs=0.01)


def test_the_shipped_names_are_told() -> None:
    shipped = {path.stem for path in (conf_dir() / "pruner/rename").glob("*.yaml")}
    assert shipped
    assert all(f"`+pruner/rename={name}`" in TEXT for name in shipped)
