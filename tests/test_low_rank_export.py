"""Adapters taken away: merged into the weights, beside a sparse base, for peft, and as a start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import pretrained
from command import SMALL, folders, lth_run, rows
from file_size import full_disk
from lth_runner import export
from lth_runner.cli.export import main
from lth_runner.export.taken_ticket import Taken
from lth_runner.problem import LowRank
from lth_runner.problem.low_rank import is_of_a_pair, pairs
from lth_runner.problem.task import Task
from lth_runner.search.partial_lora import drawn, even, lines_of
from lth_runner.values.errors import UserError
from lth_runner.values.seeds import stream

RUN = (
    *SMALL, "record=local", "coordinates=low_rank", "coordinates.rank=2", "coordinates.alpha=2",
    "coordinates.targets=[linear1]", "coordinates.whole=[output]", "pruner=partial_lora",
    "pruner.ratios=even", "pruner.sparsity=0.5", "control=none", "train.optimizer.lr=0.05",
)  # fmt: skip


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over a base of which half the weights are 0."""
    root = tmp_path_factory.mktemp("outputs")
    base = {
        "linear1.weight": torch.randn(8, 64, generator=stream(0, "w")) / 8,
        "linear1.bias": torch.zeros(8),
        "output.weight": torch.randn(10, 8, generator=stream(0, "o")) / 3,
        "output.bias": torch.zeros(10),
    }
    base["linear1.weight"][:, ::2] = 0.0
    save_file(base, root / "base.safetensors")
    origin = ("origin=file", f"origin.path={root / 'base.safetensors'}")
    said = lth_run(*RUN, *origin, f"paths.outputs={root}")
    assert said.status == 0, said.err
    return root


def test_a_merged_file_is_the_base_and_the_change_and_keeps_zeros_on_request(
    outputs: Path, tmp_path: Path
) -> None:
    run, merged, sparse = outputs / "small", tmp_path / "merged.safetensors", tmp_path / "s.pt"
    for path, words in ((merged, ()), (sparse, ("--keep-zeros",))):
        assert main([str(run), *words, "--as", "checkpoint", "--to", str(path)]) == 0
    base = load_file(outputs / "base.safetensors")["linear1.weight"]
    dense, kept = load_file(merged)["linear1.weight"], torch.load(sparse)["linear1.weight"]
    taken = export.ticket(run)
    changed = dense != base
    assert torch.equal(changed, taken.mask["linear1.weight"])
    assert changed.sum() == 4 * 32  # half of the rows and of the columns
    assert (dense[:, ::2] != 0).any()
    assert torch.equal(kept == 0, base == 0)
    assert torch.equal(kept[base != 0], dense[base != 0])
    assert export.ticket(run, keep_zeros=True).facts["kept_zeros"]
    with pytest.raises(UserError, match=r"--keep-zeros .*trained weights of runs in"):
        export.ticket(run, keep_zeros=True, start=True)


def test_a_run_starts_from_merged_adapters(outputs: Path, tmp_path: Path) -> None:
    said = lth_run(
        *SMALL, "record=local", "origin=run", f"origin.run={outputs / 'small'}", "origin.round=1",
        "name=second", "control=none", f"paths.outputs={tmp_path}",
    )  # fmt: skip
    assert said.status == 0, said.err
    [folder] = folders(tmp_path, "second")
    start = load_file(folder / "tickets/round-00.safetensors")
    merged = export.ticket(outputs / "small", round=1).weights
    assert all(torch.equal(start[f"weights.{name}"], value) for name, value in merged.items())


def adapter(path: Path, family: str, targets: list[str], head: str) -> Taken:
    """Half of the rows and columns of a model's adapters, with any values in them."""
    made = pretrained.sequence_classifier(pretrained.folder(path, family, head=""))
    coordinates = LowRank(rank=3, alpha=6.0, targets=targets, whole=[head])
    task = Task(made, pretrained.sentences(), coordinates=coordinates)
    lines = lines_of(task.dense())
    mask = drawn(task.dense(), even(lines, sum(lines.values()) // 2), 0)
    rng = stream(0, "values")
    own = {n: torch.randn(v.shape, generator=rng) for n, v in task.init().items()}
    own = mask(own)
    facts = {"weights": "trained", "run": "r", "name": "n", "round": 1, "arm": "ticket", "seed": 0}
    return Taken(
        task, task.stock_names(mask), task.merged(own), {**facts, "sparsity": 0.5}, {}, own
    )


@pytest.mark.parametrize(
    ("family", "targets", "head"),
    [("bert", ["*.query", "*.output.dense"], "classifier"), ("gpt2", ["*.c_attn"], "score")],
)
def test_peft_reads_an_adapter_that_answers_as_the_run_does(
    family: str, targets: list[str], head: str, tmp_path: Path
) -> None:
    peft = pytest.importorskip("peft")
    ticket = adapter(tmp_path / "model", family, targets, head)
    with full_disk(), pytest.raises(UserError, match="adapter cannot be written"):
        export.to_peft(ticket, tmp_path / "adapter")
    done = export.to_peft(ticket, tmp_path / "adapter")
    assert done.agreement.largest <= 1e-5 * done.agreement.scale
    network = ticket.fresh()
    base = ticket.task.merged(ticket.task.init())
    network.load_state_dict(base, strict=False)
    laid = peft.PeftModel.from_pretrained(network, str(tmp_path / "adapter"))
    merged = laid.merge_and_unload().state_dict()
    for weight in pairs(ticket.task.prunable):
        torch.testing.assert_close(merged[weight], ticket.weights[weight], rtol=0, atol=1e-6)
        assert torch.equal(merged[weight] != base[weight], ticket.mask[weight])
    written = load_file(tmp_path / "adapter/adapter_model.safetensors")
    assert sum(".lora_" in name for name in written) == sum(map(is_of_a_pair, ticket.own or {}))
    with pytest.raises(UserError, match="an adapter as it was trained"):
        export.to_peft(replace(ticket, own=None), tmp_path / "other")


def test_no_adapter_is_no_peft_and_keeps_no_zeros(outputs: Path, tmp_path: Path, capsys) -> None:
    words = [str(outputs / "small"), "--as", "peft", "--to", str(tmp_path / "adapter")]
    assert main(words) == 2
    assert "peft is for runs of model=hf" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*words, "--keep-zeros"])
    assert "--keep-zeros is for merged weights" in capsys.readouterr().err
    [row] = [r for r in rows(folders(outputs)[0] / "rounds.jsonl") if r["round"]]
    assert row["num_kept"] == row["num_prunable"] // 2


def test_adapters_are_no_task_vector_and_no_start_is_blamed(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--as", "task_vector", "--to", str(tmp_path / "x.safetensors")]
    assert main([str(outputs / "small"), *words]) == 2
    said = capsys.readouterr().err
    assert "coordinates=delta, which this one is not" in said
    assert "--start" not in said
