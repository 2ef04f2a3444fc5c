"""Given tickets are trained as what found them would have; what does not fit is refused by name."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import assume, settings, strategies
from hypothesis import given as drawn
from safetensors.torch import load_file, save_file
from torch import Tensor

import small
from command import SMALL, folders, lth_run, no_training, rows
from finished import random_mask
from lth_runner.cli.conf_dir import conf_dir
from lth_runner.masking import Static
from lth_runner.problem.low_rank import LowRank
from lth_runner.problem.models import resnet_cifar
from lth_runner.problem.task import Task
from lth_runner.runs.folder import replace_rows, write_status
from lth_runner.runs.given_tickets import GivenTickets
from lth_runner.search import Fit, Given, Rewind
from lth_runner.search.given_ticket import GivenTicket, Kept
from lth_runner.search.ticket import Past, Ticket
from lth_runner.training.job import Job, Slot
from lth_runner.values import identity
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream

Names = Mapping[str, Tensor]


def ticket(masks: Names, *, weights: Names | None = None, **facts: Any) -> GivenTicket:
    nothing = Kept.missing("it has no weights")
    held = nothing if weights is None else Kept((), lambda: weights)
    return GivenTicket("a file", Kept((), lambda: masks), held, held, **facts)


@dataclass(frozen=True)
class Held:
    """Tickets in memory, the same for every replicate."""

    tickets: Sequence[GivenTicket]

    @property
    def num(self) -> int:
        return len(self.tickets)

    def check_seeds(self, seeds: Sequence[int]) -> None:
        pass

    def of(self, seed: int) -> Sequence[GivenTicket]:
        return self.tickets


# --- the law: a ticket of the same task and seed is trained as it was


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Past:
    """A dense training with a snapshot, and a second round."""
    fit = small.trainer(tmp_path_factory.mktemp("store")).fit
    [dense] = fit([small.dense_job(small.task(), snapshots=(20,))])
    search = small.imp(step="20it")
    proposed = search.propose(small.task(), [dense])
    assert proposed is not None
    return [dense, *fit([Job(small.task(), proposed, Static(), Slot(1))])]


REWINDS: dict[str, dict[str, Any]] = {
    "init": {},
    "step": {"step": "20it"},
    "same batches": {"data_order": "rewind"},
    "trained": {"weights": "keep", "bn": "keep"},
    "drawn": {"weights": "reinit"},
}


@drawn(
    seed=strategies.integers(0, 2**16),
    density=strategies.floats(0.05, 0.95),
    rewind=strategies.sampled_from(sorted(REWINDS)),
    num=strategies.integers(1, 2),
)
@settings(max_examples=30, deadline=None)
def test_a_given_mask_is_the_ticket_that_a_search_with_this_mask_would_have_made(
    trained: Past, seed: int, density: float, rewind: str, num: int
) -> None:
    """The mask, the weights and the start are equal, and so is the training's name in the Store."""
    task, past = small.task(), trained[:num]
    mask = random_mask(task, density, seed)
    assume(0 < mask.num_kept < mask.num_prunable)
    whole = Rewind(**REWINDS[rewind])
    found = Ticket(mask, *whole(task, past))
    alone = Given(Held([ticket(mask, number=num)]), rewind=whole)
    if num == 1:
        assert _is_same(alone.propose(task, past), found)
    else:
        among = Held([ticket(random_mask(task, 0.5, 1), number=1), ticket(mask, number=2)])
        assert _is_same(replace(alone, tickets=among).propose(task, past), found)
        assert alone.propose(task, past) is None


def _is_same(one: Ticket | None, other: Ticket) -> bool:
    return (
        one is not None
        and one.mask == other.mask
        and one.fingerprint == other.fingerprint
        and (one.start.step, one.start.order) == (other.start.step, other.start.order)
    )


RUN = (*SMALL, "replicates=2", "seed=3")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two replicates with two tickets each, beside its Store."""
    outputs = tmp_path_factory.mktemp("source") / "outputs"
    assert lth_run(*RUN, f"paths.outputs={outputs}").status == 0
    return folders(outputs)[0]


def trained_as(folder: Path) -> dict[tuple[Any, ...], Any]:
    """What a run trained: the key and the accuracies by round, arm and seed."""
    said = ("training_key", "density", "test_accuracy", "train_loss")
    return {
        (row["round"], row["arm"], row["seed"]): tuple(row.get(name) for name in said)
        for row in rows(folder / "rounds.jsonl")
    }


@pytest.mark.parametrize("weights", ["own", "ticket"])
def test_a_runs_tickets_given_to_its_own_task_train_nothing_anew(
    source: Path, weights: str
) -> None:
    outputs = source.parents[1]
    words = (*RUN, f"paths.outputs={outputs}", "pruner=given", f"pruner.weights={weights}")
    with no_training():
        said = lth_run(*words, f"pruner.ticket={source}", f"name=again_{weights}")
        assert said.status == 0, said.err
        second = lth_run(*words, f"pruner.ticket={source}", "pruner.round=2", "seed=4",
                         "replicates=1", f"name=one_{weights}")  # fmt: skip
        assert second.status == 0, second.err
    [again] = folders(outputs, f"again_{weights}")
    assert trained_as(again) == trained_as(source)
    ours = trained_as(folders(outputs, f"one_{weights}")[0])
    theirs = trained_as(source)
    assert ours[1, "ticket", 4] == theirs[2, "ticket", 4]
    assert ours[1, "reinit", 4] == theirs[2, "reinit", 4]


def test_a_run_is_named_by_what_its_tickets_are_and_not_by_where_they_lie(
    source: Path, tmp_path: Path
) -> None:
    def described(path: Path, **options: Any) -> str:
        return identity.canonical(identity.describe(Given(GivenTickets(str(path), **options))))

    moved = tmp_path / "elsewhere/run"
    shutil.copytree(source, moved)
    file = moved / "tickets/round-01.safetensors"
    first = described(source, round=1, seed=3)
    assert described(moved, sparsity=0.1993243, seed=3) == first == described(file)
    others = {described(moved, round=2, seed=3), described(moved, round=1), described(moved)}
    masks = {n: kept for n, kept in load_file(file).items() if n.startswith("mask.")}
    for _ in range(2):
        save_file(masks, tmp_path / "masks.safetensors")
        others.add(described(tmp_path / "masks.safetensors"))
        masks["mask.output.weight"][0, 0] ^= True
    assert len({first, *others}) == 6
    assert str(tmp_path) not in first


def test_trained_weights_come_out_of_the_store_and_are_asked_for_where_it_has_them_no_longer(
    source: Path, tmp_path: Path
) -> None:
    words = (*RUN, f"paths.outputs={tmp_path}", "pruner=given", "pruner.weights=trained",
             "pruner.round=2", "control=none", "name=on")  # fmt: skip
    said = lth_run(*words, f"pruner.ticket={source}")
    assert said.status == 0, said.err
    [folder] = folders(tmp_path, "on")
    key = next(row["training_key"] for row in rows(source / "rounds.jsonl")
               if (row["round"], row["arm"], row["seed"]) == (2, "ticket", 4))  # fmt: skip
    end = load_file(source.parents[1] / f"store/entries/{key}/end.safetensors")
    began = load_file(folder / "tickets/round-01-seed-4.safetensors")
    for name in ("linear1.weight", "output.bias"):
        assert torch.equal(began[f"weights.{name}"], end[f"weights.{name}"])
    moved = tmp_path / "alone/run"
    shutil.copytree(source, moved)
    said = lth_run(*words, f"pruner.ticket={moved}")
    assert (said.status, "the Store no longer holds what" in said.err) == (2, True), said.err


def test_what_a_message_advises_brings_back_the_weights_that_the_store_has_lost(
    source: Path, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs"
    shutil.copytree(source.parents[1], outputs)
    [folder] = folders(outputs)
    shutil.rmtree(outputs / "store/entries")
    words = (*RUN, f"paths.outputs={outputs}")
    given = (*words, "pruner=given", f"pruner.ticket={folder}", "pruner.weights=trained", "name=on")
    said = lth_run(*given)
    assert (said.status, f"remove {folder}/status.json and give" in said.err) == (2, True), said.err
    (folder / "status.json").unlink()
    assert [lth_run(*one).status for one in (words, given)] == [0, 0]


def test_the_mask_of_a_training_that_moved_it_is_the_one_at_its_end(
    source: Path, tmp_path: Path
) -> None:
    words = (*SMALL, f"paths.outputs={tmp_path}", "control=none")
    assert lth_run(*words, "pruner=gradual", "name=moving").status == 0
    [found] = folders(tmp_path, "moving")
    said = lth_run(*words, "pruner=given", f"pruner.ticket={found}", "name=on")
    assert said.status == 0, said.err
    [folder] = folders(tmp_path, "on")
    last = rows(folder / "rounds.jsonl")[-1]
    [row] = rows(found / "rounds.jsonl")
    assert last["layer_density"] == row["layer_density"]
    assert last["density"] == pytest.approx(0.64, abs=0.01)


def test_a_replicate_that_diverged_is_missed_only_where_it_is_asked_for(
    source: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(source, folder)
    lines = [row for row in rows(folder / "rounds.jsonl") if row["seed"] == 3 or not row["round"]]
    lines[1]["diverged"] = True  # the dense training of seed 4
    replace_rows(folder / "rounds.jsonl", lines)
    write_status(folder, {"state": "diverged", "files": {}})
    found = GivenTickets(str(folder))
    assert [one.number for one in found.of(3)] == [1, 2]
    with pytest.raises(UserError, match=r"of seed 4: .* or have diverged\. It has seed 3\."):
        found.check_seeds([3, 4])


def test_every_round_of_a_run_without_a_dense_one_is_a_ticket(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(source, folder)
    lines = [row for row in rows(folder / "rounds.jsonl") if row["round"]]
    for row in lines:
        row["round"] -= 1
    replace_rows(folder / "rounds.jsonl", lines)
    write_status(folder, {"state": "done", "files": {}})
    assert [one.number for one in GivenTickets(str(folder)).of(3)] == [0, 1]
    assert [one.number for one in GivenTickets(str(folder), rounds=1).of(3)] == [0]


# --- names, heads, shapes


def half(task: Task, *names: str) -> dict[str, Tensor]:
    mask = random_mask(task, 0.5)
    return {name: mask[name] for name in names or mask}


def test_names_of_open_lth_fit_the_same_networks_here() -> None:
    """Its names as in models/cifar_resnet.py: conv, bn, blocks.N with conv1, bn1, shortcut, fc."""
    shape, width = (3, 32, 32), 4
    task = Task(lambda: resnet_cifar(shape=shape, num_classes=10, width=width), small.blobs())
    blocks = {
        f"stage{s + 1}.block{b + 1}": f"blocks.{3 * s + b}" for s in range(3) for b in range(3)
    }
    theirs = {**blocks, "shortcut.conv": "shortcut.0", "shortcut.norm": "shortcut.1",
              "norm1": "bn1", "norm2": "bn2", "output": "fc"}  # fmt: skip

    def named(name: str) -> str:
        if name.startswith(("conv1.", "norm1.")):
            return name.replace("conv1", "conv").replace("norm1", "bn")
        for ours, other in theirs.items():
            name = name.replace(ours, other)
        return name

    rename = _shipped("open_lth_cifar_resnet_20")
    mask, state = random_mask(task, 0.5), task.init(seed=7)
    given = ticket({named(name): mask[name] for name in mask})
    assert "blocks.3.shortcut.0.weight" in given.masks.read()
    with pytest.raises(
        UserError, match=r"renamed by \+pruner/rename=open_lth_cifar_resnet_20 with"
    ):
        Fit({}).mask(task, given)
    fit = Fit(rename)
    assert fit.mask(task, given).mask == mask
    written = {named(name): value for name, value in state.items()}
    found = fit.weights(task, "a file", written, task.init())
    assert all(torch.equal(found[name], state[name]) for name in state)


def _shipped(option: str) -> dict[str, str]:
    words = ["pruner=given", "pruner.ticket=mask.pth", f"+pruner/rename={option}"]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir())):
        return dict(compose("config", overrides=words).pruner.rename)


def test_what_a_mask_does_not_name_stays_dense_and_is_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = small.task()
    search = Given(Held([ticket(half(task, "linear1.weight"))]))
    with caplog.at_level(logging.INFO, logger="lth_runner"):
        search.check_replicates([task, task.with_seed(1)])
    assert "dense    output.weight: 15.8 % of the weights" in caplog.text
    assert caplog.text.count("dense ") == 1
    mask = search.fit.mask(task, search.tickets.of(0)[0]).mask
    assert mask.layer_density()["output.weight"] == 1


PREFIXED = ("module.", "_orig_mod.", "module._orig_mod.")


def test_prefixes_of_wrappers_and_names_of_layers_make_no_difference() -> None:
    task = small.task()
    own = half(task)
    names = [{f"{prefix}{name}": kept for name, kept in own.items()} for prefix in PREFIXED]
    names.append({name.removesuffix(".weight"): kept for name, kept in own.items()})
    for masks in names:
        assert Fit().mask(task, ticket(masks)).mask == Mask(own)
    with pytest.raises(UserError, match=r"and _orig_mod\.linear1\.weight are one tensor but for"):
        Fit().mask(task, ticket(own | names[1]))
    hinted = ticket({f"encoder.model.{name}": kept for name, kept in own.items()})
    with pytest.raises(UserError, match=r"""'pruner\.rename=\{encoder\.model: ""\}' makes them"""):
        Fit().mask(task, hinted)
    assert Fit({"encoder.model": ""}).mask(task, hinted).mask == Mask(own)


def test_a_head_comes_from_the_task_and_what_has_no_place_is_dropped() -> None:
    task = small.task()
    masks = {**half(task), "output.weight": torch.zeros(7, 12, dtype=torch.bool)}
    head = {"output.weight": torch.zeros(7, 12), "output.bias": torch.ones(7)}
    weights = {**task.init(seed=5), **head}
    masks["old_head.weight"], weights["old_head.weight"] = torch.ones(2, 2) > 0, torch.ones(2, 2)
    fit = Fit(dropped=["old_head"], fresh=["output"])
    given = ticket(masks, weights=weights)
    search = Given(Held([given]), "ticket", dense=False, fit=fit)
    proposed = search.propose(task, [])
    assert proposed is not None
    assert proposed.mask.layer_density()["output.weight"] == 1
    assert torch.equal(proposed.weights["output.bias"], task.init()["output.bias"])
    first = task.init(seed=5)["linear1.weight"]
    assert torch.equal(proposed.weights["linear1.weight"], first)


def test_names_that_nothing_of_a_ticket_has_are_refused_or_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    task = small.task()
    given = ticket(half(task), weights=task.init())

    def look(**names: Any) -> None:
        Given(Held([given]), fit=Fit(**names)).check_replicates([task])

    with pytest.raises(UserError, match=r"pruner\.dropped: 'old_head' matches no tensor; .*output"):
        look(dropped=["old_head"])
    with caplog.at_level(logging.INFO, logger="lth_runner"):
        look(dropped=["output.bias"], rename={"linear1": "linear1"})  # a mask has no bias
        assert "pruner.rename" not in caplog.text
        look(rename={"linaer1": "linear1", ".": ""})
    assert "pruner.rename: nothing in a file is called linaer1" in caplog.text


def changed(**changes: Tensor) -> dict[str, Tensor]:
    return {**half(small.task()), **{n.replace("__", "."): v for n, v in changes.items()}}


ODD = {
    "shapes": (
        {"linear1.weight": torch.ones(3, 4) > 0, "output.weight": torch.ones(5, 12) > 0},
        r"linear1\.weight \(3, 4\) where the network has \(12, 16\); output\.weight \(5, 12\) where"
        r" .*pruner\.fresh",
    ),
    "no tensor": (
        {"conv.weight": torch.ones(3, 4) > 0},
        r"has conv\.weight, which the network has not, nor does another .*fit: .*pruner\.rename",
    ),
    "all": (
        {"linear1.weight": torch.ones(12, 16) > 0},
        r"keeps all of 228 weights, and is no ticket",
    ),
    "nothing": (
        {"linear1.weight": torch.zeros(12, 16) > 0, "output.weight": torch.zeros(3, 12) > 0},
        r"keeps none of 228 weights.*1 must mean kept",
    ),
    "of two names": (
        changed() | {f"module.{name}": kept for name, kept in changed().items()},
        r"each is there without module\. too: leave those out by 'pruner\.dropped=\[module",
    ),
    "a layer and its weight": (
        changed() | {"linear1": torch.zeros(12, 16) > 0},
        r"linear1 and linear1\.weight both belong to linear1\.weight|"
        r"linear1\.weight and linear1 both belong to linear1\.weight",
    ),
    "biases": (
        changed(output__bias=torch.zeros(3) > 0),
        r"removes weights of output\.bias, which no mask covers here.*pruner\.biases=true",
    ),
}


@pytest.mark.parametrize(("masks", "says"), ODD.values(), ids=ODD)
def test_a_mask_that_does_not_fit_is_refused_by_name(masks: Names, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Given(Held([ticket(masks)])).check_replicates([small.task()])


def test_a_mask_of_weights_does_not_fit_where_adapters_are_masked() -> None:
    adapters = replace(small.task(), coordinates=LowRank(targets=("linear1",), rank=2))
    with pytest.raises(UserError, match=r"masks the weights linear1\.weight.*coordinates=LowRank"):
        Given(Held([ticket({"linear1.weight": changed()["linear1.weight"]})])).check_replicates(
            [adapters]
        )


def test_few_zeros_are_chance_and_no_mask() -> None:
    task = small.task()
    state = task.init()
    state["linear1.weight"][0, 0] = 0
    sparse = ticket({n: v != 0 for n, v in state.items()}, by_zeros=True)
    with pytest.raises(UserError, match=r"hardly any zeros in the 228 weights.*no sparse"):
        Fit().mask(task, sparse)
    state["output.weight"] *= torch.rand(3, 12, generator=stream(0, "zeros")) < 0.5
    fitted = Fit().mask(task, ticket({n: v != 0 for n, v in state.items()}, by_zeros=True))
    assert fitted.mask.layer_density()["linear1.weight"] == 1
    assert 0 < fitted.mask.layer_density()["output.weight"] < 1


def test_weights_that_do_not_fit_are_refused() -> None:
    task = small.task()
    whole = task.init()
    for weights, says in (
        ({n: v for n, v in whole.items() if n != "output.bias"}, r"lacks the weights of output\.b"),
        (whole | {"output.bias": torch.full((3,), torch.nan)}, r"values that are not finite"),
        (
            whole | {"output.bias": torch.ones(3, dtype=torch.int64)},
            r"is torch\.int64, the n",
        ),
    ):
        with pytest.raises(UserError, match=says):
            Fit().weights(task, "a file", weights, task.init())


# --- what a user gets wrong on the command line


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "two ways": (
        ("pruner.round=1", "pruner.sparsity=0.2"),
        "pruner.round and pruner.sparsity",
    ),
    "no round": (("pruner.round=7",), "no round 7; it has round 0 (sparsity 0), 1 (sparsity 0.199"),
    "dense": (("pruner.round=0",), "keeps all of"),
    "no seed": (("pruner.seed=9",), "no seed 9: it has 3, 4"),
    "seeds missing": (
        ("replicates=3", "seed=2"),
        "no ticket of seed 2: it has seed 3, 4. Set",
    ),
    "sparsity": (
        ("pruner.sparsity=0.7",),
        "no round of sparsity 0.7 (to one weight)",
    ),
    "another network": (("model.widths=[9]",), "linear1.weight (8, "),
    "other classes": (
        ("dataset.num_classes=4",),
        "output.weight (10, 8) where the network has",
    ),
    "weights": (("pruner.weights=best",), "pruner.weights='best'"),
    "unused rewinding": (
        ("pruner.weights=ticket", "rewind=renda_lrr"),
        "rewind.weights=keep says which weights are taken",
    ),
    "no dense": (("pruner.dense=false", "rewind.step=10it"), "rewind.step=10it needs the dense"),
    "zeros to keep": (
        ("control=[shuffle]", "pruner.weights=ticket"),
        "control.shuffle.weights=fresh",
    ),
    "trained zeros": (("control=[even]", "pruner.weights=trained"), "leave even out"),
    "a control": (("control=[invert]",), "this pruner's masks come of no score"),
}


@pytest.mark.parametrize(("words", "says"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_told_before_any_training(
    source: Path, tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    said = lth_run(*RUN, f"paths.outputs={tmp_path}/out", "pruner=given",
                   f"pruner.ticket={source}", *words)  # fmt: skip
    assert said.status == 2
    assert says in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()
