"""Test samples that are training samples too are counted, and told before a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from command import lth_run
from lth_runner.problem.data import Data
from lth_runner.problem.data.repeated import hashes, repeated
from lth_runner.values import tree


@given(st.integers(0, 6), st.sampled_from([torch.uint8, torch.float32, torch.int64]))
def test_the_share_is_of_equal_samples_whatever_they_are_made_of(num: int, dtype) -> None:
    made = torch.Generator().manual_seed(num)
    train = torch.randint(0, 256, (40, 3, 7), generator=made).to(dtype)
    test = torch.randint(0, 256, (6, 3, 7), generator=made).to(dtype)
    test[:num] = train[5 : 5 + num]
    equal = (test[:, None] == train[None]).flatten(2).all(2).any(1)
    data = Data.from_tensors((train, torch.zeros(40)), (test, torch.zeros(6)), validation=0)
    assert repeated(data) == pytest.approx(equal.double().mean().item())


def test_inputs_by_name_are_equal_where_all_of_them_are() -> None:
    one = {"a": torch.arange(4)[:, None], "b": torch.zeros(4, 3)}
    other = tree.each(torch.clone, one)
    other["b"][1, 2] = 1
    assert (hashes(one) == hashes(other)).tolist() == [True, False, True, True]


def test_one_bit_makes_another_sample() -> None:
    pixels = torch.zeros(1, 5, dtype=torch.uint8)
    others = torch.stack([pixels[0].clone() for _ in range(40)])
    for bit in range(40):
        others[bit, bit // 8] = 1 << bit % 8
    assert len(torch.cat([hashes(pixels), hashes(others)]).unique()) == 41


@pytest.mark.parametrize("same", [True, False])
def test_a_run_whose_test_split_is_its_training_split_says_so(
    tmp_path: Path, caplog, same: bool
) -> None:
    for split, shift in (("train", 0), ("test", 0 if same else 5)):
        for label in "ab":
            (tmp_path / f"images/{split}/{label}").mkdir(parents=True)
            for number in range(10):
                place = tmp_path / f"images/{split}/{label}/{number}.png"
                Image.new("L", (4, 4), 10 * number + shift + 100 * (label == "b")).save(place)
    caplog.set_level("WARNING", logger="lth_runner")
    said = lth_run(
        "+scale=smoke", "dataset=imagefolder", f"dataset.root={tmp_path}/images",
        "dataset.shape=[1,4,4]", "dataset.augment_crop=0", "dataset.num_classes=2",
        f"dataset.cache={tmp_path}/cache", "model=mlp", "model.widths=[4]",
        "train.batch_size=4", "pruner.rounds=1", "replicates=1", "control=none", "probe=none",
        "device=cpu", "record=local", f"paths.outputs={tmp_path}/out",
    )  # fmt: skip
    assert said.status == 0, said.err
    assert ("of the test samples are training samples too" in caplog.text) == same


def test_samples_are_hashed_on_the_device_where_they_lie() -> None:
    assert hashes(torch.zeros(4, 3, device="meta")).device.type == "meta"
