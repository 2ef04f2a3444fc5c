"""Tickets of other programs are read as these write them; nothing in a file is run."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import prune

from lth_runner.search.given_ticket import GivenTicket
from lth_runner.store.foreign import read_ticket_from
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3))


def halves() -> dict[str, Tensor]:
    torch.manual_seed(1)
    weights = {name: value for name, value in network().state_dict().items() if value.ndim == 2}
    return {name: torch.rand(value.shape) < 0.5 for name, value in weights.items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def masks(ticket: GivenTicket) -> dict[str, Tensor]:
    return dict(ticket.masks.read())


def sealed(found: dict[str, Tensor], path: Path) -> None:
    Mask(found).save(path)


WRITTEN: dict[str, Callable[[dict[str, Tensor], Path], object]] = {
    "bool.safetensors": lambda found, path: save_file(found, path),
    "marked.safetensors": lambda found, path: save_file(
        {f"mask.{n}": kept.to(torch.uint8) for n, kept in found.items()}, path
    ),
    "sealed": sealed,
    "floats.pt": lambda found, path: torch.save({n: k.float() for n, k in found.items()}, path),
    "suffixed.pth": lambda found, path: torch.save(
        {"epoch": 3, "masks": {f"{n}_mask": kept.long() for n, kept in found.items()}}, path
    ),
    "old": lambda found, path: torch.save(found, path, _use_new_zipfile_serialization=False),
    "wrongly_named.safetensors": lambda found, path: torch.save(found, path),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_tensors_of_0_and_1_are_masks_whatever_their_kind_and_container(
    tmp_path: Path, name: str
) -> None:
    WRITTEN[name](halves(), tmp_path / name)
    found = read_ticket_from(tmp_path / name)
    assert same(masks(found), halves())
    with pytest.raises(UserError, match=r"holds masks and no weights.*pruner\.weights=own"):
        found.trained.read()


def test_a_checkpoint_of_torch_prune_gives_its_masks_and_the_weights_below_them(
    tmp_path: Path,
) -> None:
    module = network()
    prune.random_unstructured(module[0], "weight", 0.5)
    prune.l1_unstructured(module[3], "weight", 5)
    before = {name.removesuffix("_orig"): value for name, value in module.state_dict().items()}
    torch.save({"epoch": 3, "model": module.state_dict()}, tmp_path / "pruned.pt")
    found = read_ticket_from(tmp_path / "pruned.pt")
    buffers = dict(module.named_buffers())
    assert same(masks(found), {f"{n}.weight": buffers[f"{n}.weight_mask"].bool() for n in "03"})
    held = {name: value for name, value in before.items() if not name.endswith("_mask")}
    assert same(dict(found.trained.read()), held)
    with pytest.raises(UserError, match=r"one set of weights.*pruner\.weights=trained"):
        found.start.read()


def test_a_level_of_open_lth_has_its_first_and_its_last_model_beside_the_mask(
    tmp_path: Path,
) -> None:
    """The files and their types are those of its pruning/mask.py and models/base.py."""
    level = tmp_path / "lottery_0/replicate_1/level_3/main"
    level.mkdir(parents=True)
    torch.save({name: kept.cpu().int() for name, kept in halves().items()}, level / "mask.pth")
    (level / "sparsity_report.json").write_text('{"total": 66.0, "unpruned": 30.0}')
    for step, scale in (("ep2_it0", 0.5), ("ep0_it500", 0.1), ("ep10_it0", 1.0)):
        state = {name: value * scale for name, value in network().state_dict().items()}
        torch.save(state, level / f"model_{step}.pth")
    for place in (level, level / "mask.pth"):
        found = read_ticket_from(place)
        assert same(masks(found), halves())
        weight = network().state_dict()["0.weight"]
        assert torch.equal(found.start.read()["0.weight"], weight * 0.1)
        assert torch.equal(found.trained.read()["0.weight"], weight)
    with pytest.raises(
        UserError, match=r"holds a level of OpenLTH: give its folder .*level_3/main"
    ):
        read_ticket_from(tmp_path / "lottery_0")


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*deprecated", "error:.*TorchScript archive")
def test_a_program_of_torchscript_is_told_and_not_how_it_could_be_run(tmp_path: Path) -> None:
    torch.jit.script(network()).save(tmp_path / "program.pt")
    with pytest.raises(UserError) as told:
        read_ticket_from(tmp_path / "program.pt")
    assert "is a program of TorchScript and no file of torch.save" in str(told.value)
    assert "weights_only" not in str(told.value)


def test_the_zeros_of_a_sparse_checkpoint_are_its_mask_over_shards_and_in_half_precision(
    tmp_path: Path,
) -> None:
    kept = halves()
    state = {
        name: (value * kept[name] if name in kept else value).to(torch.bfloat16)
        for name, value in network().state_dict().items()
    }
    shards = {"model-1.safetensors": ["0.weight", "0.bias"]}
    shards["model-2.safetensors"] = [
        name for name in state if name not in shards["model-1.safetensors"]
    ]
    for shard, names in shards.items():
        save_file({name: state[name] for name in names}, tmp_path / shard)
    places = {name: shard for shard, names in shards.items() for name in names}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    found = read_ticket_from(tmp_path)
    assert found.by_zeros
    assert same({name: found.masks.read()[name] for name in kept}, kept)
    assert same(dict(found.trained.read()), state)


def test_what_is_called_so_for_another_reason_is_no_torn_pruning(tmp_path: Path) -> None:
    state = network().state_dict() | {"attention.causal_mask": torch.ones(2, 2).tril()}
    state["0.weight"][:, 0] = 0
    state["head.weight_orig"], state["head.weight_u"] = torch.randn(2, 2), torch.randn(2)
    torch.save(state, tmp_path / "file")
    found = read_ticket_from(tmp_path / "file")
    assert found.by_zeros
    assert torch.equal(found.masks.read()["0.weight"], state["0.weight"] != 0)


def test_no_mask_is_read_of_values_that_are_not_finite(tmp_path: Path) -> None:
    torch.save({"0.weight": torch.full((2, 2), torch.nan)}, tmp_path / "nan.pt")
    with pytest.raises(UserError, match=r"0\.weight has values that are not finite"):
        read_ticket_from(tmp_path / "nan.pt").masks.read()["0.weight"]


def twice_pruned(path: Path) -> None:
    module = network()
    prune.l1_unstructured(module[0], "weight", 0.5)
    torch.save(module.state_dict() | {"0.weight": torch.ones(3)}, path)


def shards_of_two_models(path: Path) -> None:
    path.mkdir()
    for shard in ("a.safetensors", "b.safetensors"):
        save_file(network().state_dict(), path / shard)
    places = {"0.weight": "a.safetensors", "0.bias": "b.safetensors"}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))


TWICE: dict[str, tuple[Callable[[Path], object], str]] = {
    "prefixed": (
        lambda path: torch.save({"a.weight": torch.ones(3), "mask.a.weight": torch.zeros(3)}, path),
        r"a\.weight and mask\.a\.weight are both masks of a\.weight, and differ",
    ),
    "suffixed": (
        lambda path: torch.save({"a.weight_mask": torch.ones(3), "a.weight": torch.zeros(3)}, path),
        r"a\.weight_mask and a\.weight are both masks of a\.weight",
    ),
    "pruned": (twice_pruned, r"0\.weight is there beside 0\.weight_orig"),
    "shards": (shards_of_two_models, r"0\.bias is in b\.safetensors and in another shard"),
}


@pytest.mark.parametrize(("write", "says"), TWICE.values(), ids=TWICE)
def test_two_tensors_of_one_name_are_refused_where_they_differ(
    tmp_path: Path, write: Callable[[Path], object], says: str
) -> None:
    write(tmp_path / "file")

    def read() -> None:
        found = read_ticket_from(tmp_path / "file")
        found.masks.read()
        found.trained.read()

    with pytest.raises(UserError, match=says):
        read()


def test_a_mask_that_is_there_under_two_names_is_one(tmp_path: Path) -> None:
    same_ones = {f"mask.{name}": kept for name, kept in halves().items()}
    torch.save(halves() | same_ones, tmp_path / "file")
    assert same(masks(read_ticket_from(tmp_path / "file")), halves())


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("evil",)


def program(path: Path) -> None:
    """Writes what tells an archive of torch.export from one of torch.save."""
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("archive/archive_format", "pt2")
        opened.writestr("archive/data/weights/weight_0", bytes(4))


def masks_beside_weights(path: Path) -> None:
    state = network().state_dict()
    torch.save(state | {f"{name}_mask": kept for name, kept in halves().items()}, path)


def torn(*gone: str, **changed: Tensor) -> Callable[[Path], object]:
    """Writes a checkpoint of torch.nn.utils.prune without some tensors, or with others."""

    def write(path: Path) -> None:
        module = network()
        prune.l1_unstructured(module[0], "weight", 0.5)
        state = {name: v for name, v in module.state_dict().items() if name not in gone}
        torch.save(state | {name.replace("__", "."): v for name, v in changed.items()}, path)

    return write


SHARES = {"0.weight": torch.tensor([[0.5, 1], [0, 0.25]])}
WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, r"does not exist; accepted: a ticket file or a run folder"),
    "empty": (lambda path: path.touch(), r"is empty"),
    "a text": (lambda path: path.write_text("0 1 1 0 1 0 0 1"), r"neither a safetensors file nor"),
    "a pipe": (lambda path: os.mkfifo(path), r"is no file"),
    "a folder": (lambda path: path.mkdir(), r"holds no ticket: give one; accepted"),
    "cut": (lambda path: path.write_bytes(b"\x40" + b"\0" * 7 + b'{"a'), r"damaged safetensors"),
    "cut zip": (lambda path: path.write_bytes(b"PK\x03\x04" + b"\0" * 40), r"no whole file"),
    "a program": (program, r"file is a program of torch\.export.*--as checkpoint"),
    "code": (
        lambda path: path.write_bytes(pickle.dumps({"a": Evil()}, protocol=2)),
        r"would run code when it is opened",
    ),
    "a module": (lambda path: torch.save(network(), path), r"would run code when it is opened"),
    "numbers": (lambda path: torch.save({"a": 1}, path), r"no dictionary of tensors by name"),
    "two": (
        lambda path: torch.save({"model": network().state_dict(), "mask": halves()}, path),
        r"2 dictionaries of tensors \(model, mask\)",
    ),
    "two kinds": (masks_beside_weights, r"two kinds of content, masks \(0\.weight_mask\) beside"),
    "no kind": (
        lambda path: torch.save({"a": torch.arange(5)}, path),
        r"holds no mask, and no weights.*accepted",
    ),
    "a mask alone": (
        torn("0.weight_orig"),
        r"file holds 0\.weight_mask without 0\.weight_orig: of what torch",
    ),
    "masks among pruned": (
        torn(**{"2__weight_mask": torch.ones(3)}),
        r"2\.weight_mask without 2\.weight_orig",
    ),
    "unmasked": (torn("0.weight_mask"), r"file holds 0\.weight_orig without 0\.weight_mask"),
    "soft": (lambda path: torch.save(SHARES, path), r"file: 0\.weight holds 0\.5, where a mask"),
    "soft by name": (
        lambda path: torch.save({"mask.a": torch.tensor([0.0, -2])}, path),
        r"mask\.a holds -2, where",
    ),
    "bytes": (
        lambda path: torch.save({"a": torch.tensor([[0, 255]])}, path),
        r"a holds 255, where a mask",
    ),
    "compressed": (
        lambda path: save_file(
            {"a.weight.compressed": torch.ones(3), "a.weight.bitmask": torch.ones(3)}, path
        ),
        r"stored compressed \(a\.weight\.(bitmask|compressed)\).*save_compressed=False",
    ),
}


@pytest.mark.parametrize(("write", "says"), WRONG.values(), ids=WRONG)
def test_what_holds_no_ticket_is_refused_and_nothing_in_it_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    write: Callable[[Path], object], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "file")
    with pytest.raises(UserError, match=says):
        read_ticket_from(tmp_path / "file")
    assert not (tmp_path / "evil").exists()
