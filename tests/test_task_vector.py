"""A task vector: what a run in deltas changed, as a file that is laid on its base and taken off."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from command import SMALL, lth_run
from lth_runner import export
from lth_runner.cli.export import main
from lth_runner.export.size import form_sizes
from lth_runner.values.errors import UserError

LOTA = (
    *SMALL, "record=local", "coordinates=delta", "covers.only=[linear1.weight]",
    "coordinates.whole=[output]", "pruner=magnitude_at_init", "pruner.score_step=5it",
    "pruner.sparsity=0.9", "control=none", "train.optimizer.lr=0.3", "model.widths=[64]",
)  # fmt: skip


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("outputs")
    for name, words in (("own", ()), ("bf16", ("coordinates.base=bf16",))):
        said = lth_run(*LOTA, f"name={name}", f"paths.outputs={root}", *words)
        assert said.status == 0, said.err
    return root


@pytest.mark.parametrize("name", ["own", "bf16"])
def test_a_task_vector_makes_what_was_trained_of_its_base_and_goes_to_the_bit(
    outputs: Path, tmp_path: Path, name: str
) -> None:
    taken = export.ticket(outputs / name, round=1)
    done = export.to_task_vector(taken, tmp_path / "change.safetensors")
    assert done.agreement.largest == 0
    dense = export.to_checkpoint(taken, tmp_path / "dense.safetensors")
    assert done.num_bytes < 0.5 * dense.num_bytes
    module = taken.fresh()  # the base: the run's own draw, with a head of its own
    for key, value in taken.task.merged(taken.task.init()).items():
        module.state_dict()[key].copy_(value)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    vector = export.TaskVector.load(tmp_path / "change.safetensors")
    assert int(vector.kept["linear1.weight"].sum()) == round(0.1 * 64 * 64)
    with vector.apply(module):
        for key, value in module.state_dict().items():
            assert torch.equal(value.view(torch.int32), taken.weights[key].view(torch.int32))
    for key, value in module.state_dict().items():
        assert torch.equal(value.view(torch.int32), before[key].view(torch.int32))


def test_another_base_is_told_by_its_content_and_nothing_is_written(
    outputs: Path, tmp_path: Path
) -> None:
    taken = export.ticket(outputs / "own", round=1)
    export.to_task_vector(taken, tmp_path / "change.safetensors")
    vector = export.TaskVector.load(tmp_path / "change.safetensors")
    other = taken.module()  # what was trained is no base any more
    before = {key: value.clone() for key, value in other.state_dict().items()}
    with pytest.raises(UserError, match="has not the weights that the task vector is a change of"):
        vector.apply(other)
    assert all(torch.equal(value, before[key]) for key, value in other.state_dict().items())
    with pytest.raises(UserError, match="is a task vector, the change of a network: lay it on"):
        export.load(tmp_path / "change.safetensors")
    with pytest.raises(UserError, match=r"linear1.weight is \(64, 64\) bfloat16"):
        vector.apply(taken.fresh().bfloat16())
    with pytest.raises(UserError, match=r"has no linear1.weight, output"):
        vector.apply(torch.nn.Linear(2, 2))


def test_what_has_no_deltas_has_no_task_vector(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        str(outputs / "own"),
        "--start",
        "--as",
        "task_vector",
        "--to",
        str(tmp_path / "x.safetensors"),
    ]
    assert main(words) == 2
    assert "leave --start away" in capsys.readouterr().err
    checkpoint = tmp_path / "dense.safetensors"
    export.to_checkpoint(export.ticket(outputs / "own", round=1), checkpoint)
    with pytest.raises(UserError, match="of the form checkpoint, not task_vector"):
        export.TaskVector.load(checkpoint)


def test_a_report_leaves_out_forms_that_drop_what_is_not_zero(outputs: Path) -> None:
    sizes = [one.form for one in form_sizes(export.ticket(outputs / "own", round=1), None)]
    assert sizes == ["dense", "masked"]
