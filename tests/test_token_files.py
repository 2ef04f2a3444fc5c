"""Tokens in binary files: windows by their numbers, read once, and told where they are none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lth_runner.problem.data import SampledData, token_files
from lth_runner.problem.data.samples import TokenFacts
from lth_runner.values.errors import UserError


def written(folder: Path, *, largest: int = 40) -> Path:
    for name, num in (("train", 101), ("val", 31), ("test", 21)):
        (np.arange(num) % (largest + 1)).astype("uint16").tofile(folder / f"{name}.bin")
    return folder


def load(folder: Path, **options: Any) -> SampledData:
    known = {"length": 10, "vocabulary": 41, "cache": str(folder / "cache"), **options}
    return token_files(root=str(folder), **known)


def test_a_window_and_what_follows_each_of_its_tokens(tmp_path: Path) -> None:
    data = load(written(tmp_path))
    assert (len(data.train), len(data.test)) == (10, 2)
    [(inputs, targets)] = data.batches("test", 8)
    assert torch.equal(inputs, torch.arange(20).view(2, 10))
    assert torch.equal(targets, inputs + 1)


def test_a_file_is_read_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(written(tmp_path)).fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(TokenFacts, "of", None)  # not called
        assert load(tmp_path).fingerprint == first
    assert load(tmp_path, length=9).fingerprint != first
    written(tmp_path, largest=39)
    assert load(tmp_path).fingerprint != first


def test_without_a_validation_file_windows_are_held_out(tmp_path: Path) -> None:
    data = load(written(tmp_path), val=None, validation=3)
    assert data.val is not None
    assert (len(data.train), len(data.val)) == (7, 3)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"vocabulary": 40}, r"train\.bin holds token 40, beyond the vocabulary of 40"),
        ({"length": 200}, "need at least 201"),
        ({"length": 0}, "dataset.length=0"),
        ({"dtype": "float32"}, "accepted: uint8, uint16, uint32"),
        ({"dtype": "uint32"}, "no whole number of uint32 tokens"),
        ({"val": "dev.bin"}, r"no file .*dev\.bin \(dataset\.val\)"),
    ],
)
def test_what_is_no_file_of_tokens_is_refused(
    tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    with pytest.raises(UserError, match=told):
        load(written(tmp_path), **options)


@pytest.mark.parametrize("wide", ["int32", "int64"])
def test_numbers_of_another_width_are_told_and_not_trained_on(tmp_path: Path, wide: str) -> None:
    for split in ("train", "val", "test"):
        np.arange(200).astype(wide).tofile(tmp_path / f"{split}.bin")
    with pytest.raises(UserError, match=r"every second number of .*train\.bin is 0"):
        load(tmp_path, vocabulary=200)
