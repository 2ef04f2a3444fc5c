"""Budgets by output row: the same number in every row, exact in all, nested, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import small
from command import SMALL, folders, lth_run, rows
from lth_runner.allocate import Rows, count
from lth_runner.problem.covers import Covers
from lth_runner.problem.task import Task
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream


def full(**shapes: tuple[int, ...]) -> Mask:
    return Mask({name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()})


def noise(mask: Mask, seed: int = 0) -> dict[str, Tensor]:
    return {n: torch.rand(k.shape, generator=stream(seed, "noise", n)) for n, k in mask.items()}


def test_rows_by_hand() -> None:
    scores = {"w": torch.tensor([[9.0, 8.0, 7.0, 6.0], [1.0, 4.0, 3.0, 2.0]])}
    half = Rows()(scores, 0.5, full(w=(2, 4)), 0)
    assert half["w"].int().tolist() == [[1, 1, 0, 0], [0, 1, 1, 0]]
    # 5 of 8: two in each row, and the third where it scores more
    more = Rows()(scores, 0.625, full(w=(2, 4)), 0)
    assert more["w"].int().tolist() == [[1, 1, 1, 0], [0, 1, 1, 0]]
    turned = Rows(transposed=["w"])({"w": scores["w"].t()}, 0.5, full(w=(4, 2)), 0)
    assert torch.equal(turned["w"], half["w"].t())


def test_a_row_of_which_less_is_left_keeps_it_and_the_others_give_less() -> None:
    within = Mask({"w": torch.tensor([[True, False, False, False], [True] * 4, [True] * 4])})
    scores = {"w": torch.arange(12.0).view(3, 4)}
    kept = Rows()(scores, 7 / 12, within, 0)["w"]
    assert kept.int().tolist() == [[1, 0, 0, 0], [0, 1, 1, 1], [0, 1, 1, 1]]
    assert torch.equal(Rows()(scores, 0.75, within, 0)["w"], within["w"])


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 7), st.integers(1, 9)), min_size=1, max_size=4),
    st.floats(0.02, 0.98),
    st.booleans(),
)
def test_counts_are_exact_even_over_rows_and_nested(
    shapes: list[tuple[int, int]], density: float, constant: bool
) -> None:
    dense = full(**{f"w{i}": shape for i, shape in enumerate(shapes)})
    scores = {n: torch.ones_like(s) if constant else s for n, s in noise(dense).items()}
    mask = Rows()(scores, density, dense, 3)
    assert mask.num_kept == count(density, dense.num_prunable)
    for name, kept in mask.items():
        in_row = kept.sum(1)
        assert int(in_row.max() - in_row.min()) <= 1
        assert abs(int(kept.sum()) - density * kept.numel()) < 1
        for row, values in zip(kept, scores[name], strict=True):
            if row.any() and not row.all():
                assert values[row].min() >= values[~row].max()
    again = Rows()(noise(dense, 1), density / 2, mask, 3)
    assert again <= mask
    assert again.num_kept == count(density / 2, dense.num_prunable)


def test_equal_scores_are_drawn_by_seed_in_each_row() -> None:
    dense = full(w=(20, 30))
    scores = {"w": torch.zeros(20, 30)}
    one, two, same = (Rows()(scores, 0.5, dense, seed)["w"] for seed in (0, 1, 0))
    assert torch.equal(one, same)
    assert not torch.equal(one, two)
    assert len(one.unique(dim=0)) == 20


def test_excluded_layers_stay_and_count_and_convolutions_have_rows_of_filters() -> None:
    dense = full(conv=(4, 2, 3, 3), fc=(6, 8))
    mask = Rows(exclude=["fc"])(noise(dense), 0.7, dense, 0)
    assert mask["fc"].all()
    assert mask.num_kept == count(0.7, 120) == 84
    assert mask["conv"].sum((1, 2, 3)).tolist() == [9] * 4
    with pytest.raises(UserError, match="scores are not finite"):
        Rows()({n: s / 0 for n, s in noise(dense).items()}, 0.5, dense, 0)


def test_layers_whose_outputs_are_on_another_axis_must_be_named() -> None:
    class Both(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Conv2d(1, 4, 1), nn.ConvTranspose2d(4, 4, 1), nn.Flatten(),
                             nn.Linear(64, 3))  # fmt: skip

    plain = Task(Both, small.blobs())
    Rows().check_layers(plain)
    with pytest.raises(UserError, match=r"3\.weight has its outputs on the first axis"):
        Rows(transposed=["3"]).check_layers(plain)
    every = replace(plain, covers=Covers(types=["linear", "convolution", "transposed_convolution"]))
    with pytest.raises(UserError, match=r"1\.weight is of the kind transposed_convolution"):
        Rows().check_layers(every)
    Rows(exclude=["1"]).check_layers(every)
    with pytest.raises(UserError, match=r"pruner\.biases=true: pruner\.scope=rows"):
        Rows()({}, 0.5, Task(Both, small.blobs(), biases=True).dense(), 0)


@pytest.mark.parametrize(
    "words",
    [
        ["pruner=wanda"],
        ["pruner=wanda", "pruner.scope=n_of_m"],
        ["pruner=wanda", "pruner.scope=global", "pruner.iterations=2"],
        [
            "pruner=one_shot",
            "pruner.scope=rows",
            "pruner.search.score._target_=lth_runner.score.Wanda",
            "+pruner.search.score.batch_size=32",
        ],
    ],
)
def test_wanda_runs_on_start_weights_and_on_trained_ones(words: list[str], tmp_path: Path) -> None:
    words = ["pruner.search.score.batch_size=32", *words] if "one_shot" not in words[0] else words
    said = lth_run(*SMALL, *words, "pruner.sparsity=0.5", f"paths.outputs={tmp_path}")
    assert said.status == 0, said.err
    [folder] = folders(tmp_path)
    last = rows(folder / "rounds.jsonl")[-1]
    assert last["num_kept"] == count(0.5, last["num_prunable"])
    if "pruner.scope=global" not in words:
        assert list(last["layer_density"].values()) == [0.5, 0.5]
