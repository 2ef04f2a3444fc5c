"""The compiled loops: found, compiled and kept on machines of many kinds, or refused in words."""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

import small
from lth_runner.masking import Static
from lth_runner.training.engines.choose import choose
from lth_runner.training.engines.compiled import (
    SurvivingLinear,
    Survivors,
    WholeLinear,
    fused_step,
    library,
)
from lth_runner.values.errors import UserError
from lth_runner.values.pieces import piece
from lth_runner.values.seeds import stream


@pytest.fixture
def fresh_library(monkeypatch, tmp_path):
    """The library compiled anew, in haste, in a cache of its own; CC is this test's."""
    monkeypatch.setenv("CC", refusing(tmp_path / "hasty", "-no-flag"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where one of this machine's may lie
    library.cache_clear()
    yield tmp_path / "cache" / "lth-runner" / "compiled"
    library.cache_clear()


def refusing(path, flags):
    """A compiler that knows not all flags, and takes no time to optimise."""
    look = f'for a in "$@"; do case $a in {flags}) exit 1;; esac; done'
    path.write_text(f'#!/bin/sh\n{look}\nexec cc "$@" -O0\n')  # quickly: it is not to be quick
    path.chmod(0o700)
    return str(path)


@pytest.mark.parametrize("flags", ["-fopenmp", "-march=native", "-fopenmp|-march=native"])
def test_a_compiler_that_knows_fewer_flags_will_do(monkeypatch, tmp_path, fresh_library, flags):
    monkeypatch.setenv("CC", refusing(tmp_path / "cc", flags))
    assert library()
    assert [file.suffix for file in fresh_library.iterdir()] == [".so"]
    monkeypatch.setenv("CC", "no-such-compiler")
    library.cache_clear()
    assert library()  # what was compiled before serves


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A compiled library as it is kept: its file's name and content."""
    with pytest.MonkeyPatch.context() as patched:
        cache = tmp_path_factory.mktemp("cache")
        patched.setenv("XDG_CACHE_HOME", str(cache))
        patched.setenv("CC", refusing(cache / "hasty", "-no-flag"))
        library.cache_clear()
        assert library()
        library.cache_clear()
        [file] = Path(os.environ["XDG_CACHE_HOME"]).rglob("*.so")
        return file.name, file.read_bytes()


def damaged(folder, kept, harm):
    name, content = kept
    folder.mkdir(parents=True, mode=0o700)
    (folder / name).write_bytes(harm(content))
    return folder / name


def test_a_named_pipe_in_the_place_of_a_library_is_not_waited_for(fresh_library, kept, tmp_path):
    fresh_library.mkdir(parents=True, mode=0o700)
    os.mkfifo(fresh_library / kept[0])
    assert library()
    assert list(tmp_path.glob("lth-runner-*/*.so"))  # where it is had instead


def test_a_damaged_library_is_not_loaded_but_compiled_again(fresh_library, kept, caplog):
    harmed = damaged(fresh_library, kept, lambda content: content[:5000])  # SIGBUS, if loaded
    assert library()
    assert f"{harmed} was damaged: removed, and compiled again" in caplog.text
    [again] = fresh_library.iterdir()
    assert again.stem.rpartition("-")[2] == hashlib.sha256(again.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "harm", [flip, lambda content: content[:-1], lambda content: b"", lambda content: content * 2]
)
def test_without_a_compiler_a_damaged_library_is_none(
    monkeypatch, tmp_path, fresh_library, kept, harm
):
    monkeypatch.setenv("CC", "no-such-compiler")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    harmed = damaged(fresh_library, kept, harm)
    with pytest.raises(UserError, match="no C compiler"):
        library()
    assert not harmed.exists()
    harmed.write_bytes(kept[1])
    assert library()  # what is whole serves


def test_what_a_killed_compiler_left_is_cleared(monkeypatch, fresh_library):
    fresh_library.mkdir(parents=True, mode=0o700)
    left = piece(fresh_library / "layers-0.so")
    left.with_name(left.name.replace(f"-{os.getpid()}-", "-4194305-")).write_bytes(b"")
    assert library()
    assert [file.suffix for file in fresh_library.iterdir()] == [".so"]


def test_code_is_not_loaded_from_where_others_write(monkeypatch, tmp_path, fresh_library):
    fresh_library.mkdir(parents=True)
    fresh_library.chmod(0o777)
    linked = tmp_path / "temporary"
    linked.mkdir()
    (linked / f"lth-runner-{os.getuid()}").symlink_to(fresh_library)
    monkeypatch.setattr(tempfile, "tempdir", str(linked))
    with pytest.raises(UserError, match="you alone can write to"):
        library()


def test_without_a_home_the_temporary_folder_serves(monkeypatch, tmp_path, fresh_library):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert library()
    assert list((tmp_path / f"lth-runner-{os.getuid()}").glob("*.so"))


@pytest.mark.parametrize(
    ("compiler", "said"),
    [("no-such-compiler", "no C compiler"), ("false", "cannot compile"), ("'", "no C compiler")],
)
def test_a_machine_without_a_working_compiler_packs_and_says_so(
    monkeypatch, fresh_library, compiler, said
):
    monkeypatch.setenv("CC", compiler)
    taken = choose(small.recipe(), small.task(), Static())
    assert (taken.name, said in taken.reason) == ("packed", True)
    with pytest.raises(UserError, match=said):
        choose(small.recipe(engine="sparse"), small.task(), Static())
    assert choose(small.recipe(engine="packed"), small.task(), Static()).name == "packed"


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the flags are those of x86")
@pytest.mark.parametrize("flag", ["-mno-avx512f", "-mno-avx"])
def test_machines_with_shorter_vectors_compute_the_same(monkeypatch, fresh_library, flag):
    """Odd sizes, so that every kernel meets its remainders; a step of plain SGD of rate 1."""
    monkeypatch.setenv("CC", f"cc {flag}")
    weights = torch.randn(2, 23, 37, generator=stream(0, "weights"))
    kept = [torch.rand(23, 37, generator=stream(n, "kept")) < 0.5 for n in range(2)]
    survivors = Survivors.of(kept)
    sparse = SurvivingLinear(survivors, nn.Parameter(survivors.gather(list(weights))), None)
    whole = WholeLinear((23, 37), nn.Parameter(weights.flatten(1).clone()), None)
    whole.fuses_step = True
    sgd = torch.optim.SGD([whole.weight], lr=1.0)
    inputs = torch.randn(2, 48, 37, generator=stream(0, "inputs"))
    upstream = torch.randn(2, 48, 23, generator=stream(0, "upstream"))
    close = {"rtol": 1e-4, "atol": 1e-4}
    gradient = upstream.transpose(1, 2) @ inputs
    for layer, matrices in ((sparse, weights * torch.stack(kept)), (whole, weights)):
        x = inputs.clone().requires_grad_()
        y = layer(x)
        y.backward(upstream)
        torch.testing.assert_close(y, inputs @ matrices.transpose(1, 2), **close)
        torch.testing.assert_close(x.grad, upstream @ matrices, **close)
    fused_step(whole, sgd.param_groups[0], sgd.state, None)
    torch.testing.assert_close(whole.weight.view(2, 23, 37), weights - gradient, **close)
    for n in range(2):
        found = sparse.weight.grad[n, : int(kept[n].sum())]
        torch.testing.assert_close(found, gradient[n][kept[n]], **close)
