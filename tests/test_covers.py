"""What a mask covers: kinds of layers, patterns, shared and computed tensors, exact counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from command import SMALL, folders, lth_run, rows
from lth_runner.problem.coordinates import Delta
from lth_runner.problem.covers import KINDS, Covers
from lth_runner.problem.data import Data
from lth_runner.problem.low_rank import LowRank
from lth_runner.problem.task import Task
from lth_runner.runs.folder import read_problem
from lth_runner.values.errors import UserError

ALL = tuple(KINDS)


class Everything(nn.Module):
    """A layer of each kind; the decoder is tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 4)
        self.lstm = nn.LSTM(4, 3, num_layers=2, bidirectional=True, proj_size=2)
        self.gru = nn.GRUCell(4, 4)
        self.attention = nn.MultiheadAttention(4, 2)
        self.other = nn.MultiheadAttention(4, 2, kdim=3, vdim=5)
        self.conv = nn.Conv1d(4, 6, 3, groups=2)
        self.grow = nn.ConvTranspose1d(6, 4, 2, groups=2)
        self.norm = nn.LayerNorm(4)
        self.decoder = nn.Linear(4, 7)
        self.decoder.weight = self.embedding.weight
        self.table = nn.Parameter(torch.zeros(2, 3))


def sizes(module: nn.Module, covers: Covers, **options: bool) -> dict[str, int]:
    parameters = dict(module.named_parameters())
    return {name: parameters[name].numel() for name in covers.names(module, **options)}


LSTM = {  # 4 gates of 3 units; projections to 2, from both directions
    **{f"lstm.weight_ih_l0{way}": 4 * 3 * 4 for way in ("", "_reverse")},
    **{f"lstm.weight_hh_l0{way}": 4 * 3 * 2 for way in ("", "_reverse")},
    **{f"lstm.weight_hr_l0{way}": 2 * 3 for way in ("", "_reverse")},
    **{f"lstm.weight_ih_l1{way}": 4 * 3 * 4 for way in ("", "_reverse")},
    **{f"lstm.weight_hh_l1{way}": 4 * 3 * 2 for way in ("", "_reverse")},
    **{f"lstm.weight_hr_l1{way}": 2 * 3 for way in ("", "_reverse")},
}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", {"attention.out_proj.weight": 16, "other.out_proj.weight": 16}),
        ("convolution", {"conv.weight": 6 * 2 * 3}),
        ("transposed_convolution", {"grow.weight": 6 * 2 * 2}),
        ("embedding", {"embedding.weight": 28}),
        ("recurrent", {**LSTM, "gru.weight_ih": 48, "gru.weight_hh": 48}),
        (
            "attention_projection",
            {
                "attention.in_proj_weight": 48,
                "other.q_proj_weight": 16,
                "other.k_proj_weight": 12,
                "other.v_proj_weight": 20,
            },
        ),
    ],
)
def test_a_kind_covers_its_matrices_and_nothing_else(kind: str, expected: dict[str, int]) -> None:
    assert sizes(Everything(), Covers(types=[kind])) == expected


def test_kinds_add_up_in_the_networks_order() -> None:
    module = Everything()
    names = Covers(types=ALL).names(module)
    order = [name for name, _ in module.named_parameters()]
    assert list(names) == [name for name in order if name in set(names)]
    assert sum(sizes(module, Covers(types=ALL)).values()) == sum(
        sum(sizes(module, Covers(types=[kind])).values()) for kind in ALL
    )
    left = {n for n, value in module.named_parameters() if value.ndim > 1} - set(names)
    assert left == {"table"}


def test_a_tied_decoder_is_an_embedding_and_covered_once() -> None:
    module = Everything()
    assert "embedding.weight" not in Covers().names(module)
    assert "decoder.weight" not in Covers(types=["embedding", "linear"]).names(module)
    assert Covers(types=["embedding", "linear"]).names(module).count("embedding.weight") == 1
    task = Task(Everything, Data.from_tensors(*[(torch.zeros(4, 2), torch.arange(4))] * 2))
    assert task.num_parameters == sum(p.numel() for p in module.parameters())


def test_also_adds_and_only_takes_in_the_networks_order() -> None:
    module = Everything()
    assert Covers(also=["table", "norm"]).names(module) == (
        "table", "attention.out_proj.weight", "other.out_proj.weight", "conv.weight",
        "norm.weight", "norm.bias",
    )  # fmt: skip
    assert Covers(only=["grow.*", "gru.weight*"]).names(module) == (
        "gru.weight_ih", "gru.weight_hh", "grow.weight", "grow.bias",
    )  # fmt: skip


def test_biases_follow_covered_weights_alone() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.ConvTranspose1d(3, 4, 1), nn.Embedding(2, 2))
    assert Covers().names(module, biases=True) == ("0.weight", "0.bias")
    assert Covers(types=ALL).names(module, biases=True) == (
        "0.weight", "0.bias", "1.weight", "1.bias", "2.weight",
    )  # fmt: skip
    assert Covers(only=["1.weight"]).names(module, biases=True) == ("1.weight", "1.bias")


def test_a_layer_without_inputs_has_no_weight_that_a_mask_could_cover() -> None:
    module = nn.Sequential(nn.Linear(0, 3), nn.Linear(3, 2))
    assert Covers().names(module) == ("1.weight",)


def test_one_pattern_need_not_be_a_list() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Embedding(2, 2))
    assert Covers(also="1").names(module) == Covers(also=["1"]).names(module)
    assert Covers(only="*0*", types="embedding") == Covers(only=["*0*"], types=["embedding"])
    assert Delta(only="0.weight", whole="1.*") == Delta(only=["0.weight"], whole=["1.*"])
    assert LowRank(targets="0", whole="1") == LowRank(targets=["0"], whole=["1"])


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = weight_norm(nn.Linear(3, 2))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda m: Covers(types=["lineal"]), "covers.types: 'lineal'.*linear"),
        (lambda m: Covers(also=["decodre"]).names(m), "covers.also: 'decodre' matches no tensor"),
        (lambda m: Covers(only=["x*"]).names(m), r"covers.only: 'x\*' matches no tensor"),
        (lambda m: Covers(only=["a"], also=["b"]), "covers.only=.* covers.also=.*give one"),
        (
            lambda m: Covers(only=["layer.weight"]).names(Normed()),
            "computes from other tensors.*layer.parametrizations.weight.original0",
        ),
    ],
)
def test_what_covers_nothing_is_refused(make, says: str) -> None:
    with pytest.raises(UserError, match=says):
        make(Everything())


def test_a_run_says_what_share_of_all_parameters_is_covered_and_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    said = lth_run(*SMALL, "covers.only=[output.weight]", f"paths.outputs={tmp_path}")
    assert said.status == 0, said.err
    [folder] = folders(tmp_path)
    total, covered = 64 * 8 + 8 + 8 * 10 + 10, 8 * 10
    assert f"{covered} of {total} parameters (13.1 %); linear1.weight stays dense" in caplog.text
    problem = read_problem(folder)
    assert (problem["num_parameters"], problem["num_prunable"]) == (total, covered)
    assert problem["passed_over"] == ["linear1.weight"]
    for row in rows(folder / "rounds.jsonl"):
        removed = row["num_prunable"] - row["num_kept"]
        assert row["num_parameters"] == total
        assert row["sparsity_of_all"] == removed / total
        assert row["sparsity"] == pytest.approx(removed / covered)
