"""What a data set or a start reads must be a file: nothing waits, and nothing fills the memory."""

from __future__ import annotations

import gzip
import logging
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from lth_runner.problem.data import TokenizerFile, Tokens, corpus, text_files
from lth_runner.problem.data.idx import LARGEST, read_idx, unpacked
from lth_runner.problem.data.tokenizers import Characters
from lth_runner.problem.origin import File, ModelsOwn
from lth_runner.runs.seal import Seal
from lth_runner.store.ticket_file import read_ticket
from lth_runner.values.errors import UserError
from lth_runner.values.files import read_regular

TEXT = "hello world " * 9


def a_text(path: Path) -> object:
    return corpus(path=str(path), length=4, vocabulary=20, cache=str(path.parent / "cache"))


def a_table(path: Path) -> object:
    path = path.rename(path.with_suffix(".tsv"))
    return text_files(
        root=str(path.parent), train=path.name, val=None, test=path.name,
        length=4, vocabulary=20, num_classes=2,
    )  # fmt: skip


def a_tokenizer(path: Path) -> object:
    return TokenizerFile(str(path))


def tokens(path: Path) -> object:
    return Tokens(str(path), length=4, vocabulary=20)


def a_start(path: Path) -> object:
    return File(str(path.rename(path.with_suffix(".safetensors"))))


@pytest.mark.parametrize("read", [a_text, a_table, a_tokenizer, tokens, a_start, read_ticket])
def test_a_named_pipe_is_refused_and_not_waited_for(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        UserError,
        match=r"pipe.*: (it is a named pipe|there is no such file)|pipe is no file of .*named pipe",
    ):
        read(tmp_path / "pipe")


def test_what_is_no_file_says_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"a folder|Is a directory"):
        read_regular(tmp_path)
    with pytest.raises(OSError, match="it is a device"):
        read_regular(Path("/dev/zero"))
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"123")
    assert read_regular(tmp_path / "file", 3) == b"123"
    with pytest.raises(OSError, match="it has 3 bytes, more than 2"):
        read_regular(tmp_path / "file", 2)


def test_a_bomb_in_the_place_of_a_published_file_is_not_unpacked(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(2**20), 1) * 300  # members one after another: 300 MB
    tracemalloc.start()
    try:
        with pytest.raises(OSError, match="more than 67,108,864 bytes are packed"):
            unpacked(bomb)
        assert tracemalloc.get_traced_memory()[1] < 3 * LARGEST
    finally:
        tracemalloc.stop()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(bomb)
    assert read_idx(tmp_path, frozenset({"a sum"})) is None
    os.mkfifo(tmp_path / "t10k-images-idx3-ubyte.gz")
    assert read_idx(tmp_path, frozenset({"a sum"})) is None


class Command:
    """What a pickle runs as it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return os.mkdir, (str(self.mark),)


def test_published_weights_are_read_and_nothing_that_a_file_of_them_names_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    name = Path(models.SqueezeNet1_1_Weights.DEFAULT.url).name
    file = tmp_path / "hub" / "checkpoints" / name
    file.parent.mkdir(parents=True)
    weights = models.squeezenet1_1().state_dict()
    torch.save(weights, file)
    ModelsOwn("squeezenet1_1", "DEFAULT")
    for content in ({**weights, "more": Command(tmp_path / "mark")}, Command(tmp_path / "mark")):
        torch.save(content, file)
        with pytest.raises(UserError, match=r"origin\.name=squeezenet1_1 .* cannot be had"):
            ModelsOwn("squeezenet1_1", "DEFAULT")
        assert not (tmp_path / "mark").exists()
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


# --- the cache of tokens


def windows(path: Path, text: str) -> Any:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (1, 1))
    cache = str(path.parents[1] / "cache")
    return corpus(path=str(path), length=4, vocabulary=20, cache=cache)


def test_texts_of_equal_names_sizes_and_times_share_nothing(tmp_path: Path) -> None:
    one = windows(tmp_path / "a" / "text.txt", TEXT)
    other = windows(tmp_path / "b" / "text.txt", TEXT.replace("d", "l"))
    assert one.fingerprint != other.fingerprint
    in_its_place = windows(tmp_path / "a" / "text.txt", TEXT.replace("d", "l"))
    assert in_its_place.fingerprint == other.fingerprint


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "a pipe"])
def test_damaged_tokens_are_set_aside_and_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = windows(tmp_path / "a" / "text.txt", TEXT).fingerprint
    [file] = (tmp_path / "cache").iterdir()
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.unlink()
    if damage == "a pipe":
        os.mkfifo(file)
    else:
        file.write_bytes({"cut": content[:-5], "flipped": content, "emptied": b""}[damage])
    with caplog.at_level(logging.WARNING):
        assert windows(tmp_path / "a" / "text.txt", TEXT).fingerprint == first
    assert "is damaged: set aside and rebuilt" in caplog.text
    with mock.patch.object(Characters, "encoder", side_effect=AssertionError("encoded again")):
        assert windows(tmp_path / "a" / "text.txt", TEXT).fingerprint == first


def test_a_named_pipe_in_the_place_of_a_runs_file_is_told_and_not_waited_for(
    tmp_path: Path,
) -> None:
    path = tmp_path / "rounds.jsonl"
    path.write_text("{}\n")
    sealed = Seal.of(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="cannot be read: it is a named pipe"):
        sealed.fits(path, may_have_grown=False)
