"""theta = theta_0 + scale B A: the pairs, what their masks reach, and peft as an oracle."""

from __future__ import annotations

import copy
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import pretrained
import small
from command import SMALL, folders, lth_run, rows
from fake_past import data
from forked import lth_run_forked
from lth_runner.allocate import Global
from lth_runner.masking import Static
from lth_runner.problem import Covers, LowRank
from lth_runner.problem.coordinates import merged, stock_name
from lth_runner.problem.low_rank import is_of_a_pair, pair_names
from lth_runner.problem.task import Task
from lth_runner.search.ticket import Ticket
from lth_runner.training import train as engine
from lth_runner.training.job import Job
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.seeds import stream
from test_coordinates import Net

LOW = LowRank(rank=2, alpha=8.0, targets=["one"], whole=["head"])
A, B = pair_names("one.weight")


def task(coordinates=LOW, **changes) -> Task:
    return Task(Net, data(), coordinates=coordinates, **changes)


def lines(problem: Task, rows_kept: int, columns_kept: int) -> Mask:
    """The first rows of B and the first columns of A."""
    dense = problem.dense()
    kept = {name: torch.zeros_like(value) for name, value in dense.items()}
    kept[B][:rows_kept], kept[A][:, :columns_kept] = True, True
    return Mask(kept)


def trained(problem: Task, mask: Mask, steps: int = 30):
    job = Job(problem, Ticket(mask, problem.init()), Static())
    return engine.replay(job, small.recipe(batch_size=10), None, steps).weights


def test_it_starts_as_the_stock_network_with_one_pair_for_a_shared_weight() -> None:
    inputs = data().train[0]
    stock, low = task(None), task()
    assert torch.equal(low.outputs(low.init(), inputs), stock.outputs(stock.init(), inputs))
    assert low.prunable == (A, B)
    start, bound = low.init(), 6**-0.5
    assert start[A].shape == (2, 6)
    assert 0 < start[A].abs().max() <= bound
    assert not start[B].any()
    assert not torch.equal(start[A], low.with_seed(1).init()[A])
    whole = sum(value.numel() for name, value in start.items() if name.startswith("head"))
    trainable = sum(p.numel() for p in low.module().parameters())
    assert trainable == low.dense().num_prunable + whole == 2 * (6 + 6) + whole
    assert low.num_parameters == stock.num_parameters + 2 * (6 + 6)
    assert not any(low.kind(name) for name in low.prunable)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_delta_w_is_zero_outside_rows_and_columns_to_the_bit(optimizer) -> None:
    problem, base = task(), task(None).init()["one.weight"] + 0.0
    mask = lines(problem, 4, 3)
    ticket = Ticket(mask, problem.init())
    assert torch.equal(problem.merged(ticket.masked)["one.weight"], base)
    job = Job(problem, ticket, Static())
    recipe = small.recipe(
        batch_size=10, optimizer=lambda parts: optimizer(parts, lr=0.05, weight_decay=0.1)
    )
    ended = engine.replay(job, recipe, None, 20).weights
    weight = problem.merged(ended)["one.weight"]
    assert torch.equal(weight[4:], base[4:])
    assert torch.equal(weight[:, 3:], base[:, 3:])
    assert (weight[:4, :3] != base[:4, :3]).all()
    reached = problem.stock_names(mask)["one.weight"]
    assert torch.equal(reached, torch.arange(36).view(6, 6).remainder(6).lt(3) & rows_below(4))
    other = problem.merged(ended)
    assert torch.equal(other["two.bias"], task(None).init()["two.bias"])
    assert not torch.equal(other["head.weight"], task(None).init()["head.weight"])


def rows_below(num: int) -> torch.Tensor:
    return (torch.arange(6) < num).view(6, 1).expand(6, 6)


def test_a_mask_of_single_entries_reaches_what_their_products_do() -> None:
    problem = task()
    scores = {n: torch.rand(k.shape, generator=stream(0, n)) for n, k in problem.dense().items()}
    mask = Global()(scores, 0.4, problem.dense(), 0)
    weight = problem.merged(trained(problem, mask))["one.weight"]
    reached = problem.stock_names(mask)["one.weight"]
    assert torch.equal(weight != task(None).init()["one.weight"] + 0.0, reached)
    assert 0 < reached.sum() < 36


def test_merged_is_what_the_pairs_answer() -> None:
    problem, inputs = task(), data().train[0]
    weights = trained(problem, problem.dense())
    stock = problem.merged(weights)
    assert stock.keys() == task(None).init().keys()
    assert torch.equal(problem.outputs(weights, inputs), task(None).outputs(stock, inputs))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: LowRank(rank=0), "coordinates.rank=0: give a whole number"),
        (lambda: LowRank(alpha=0), "coordinates.alpha=0: give a number above 0"),
        (lambda: LowRank(targets=[]), "coordinates.targets is empty"),
        (lambda: LowRank(rank=7, targets=["one"]), r"rank=7 is above .* one.weight.* at most 6"),
        (lambda: LowRank(targets=["onr"]), "coordinates.targets: 'onr' matches no tensor; .*one"),
        (lambda: LowRank(targets=["norm"]), "'norm' matches no weight of a linear layer"),
        (lambda: LowRank(2, targets=["one"], whole=["one.weight"]), "both name one.weight"),
        (lambda: LowRank(2, covers=Covers(also=["norm.weight"])), "covers names norm.weight"),
        (lambda: LowRank(2, covers=Covers(("embedding",))), "covers names no weight of the model"),
        (lambda: LowRank(2, targets=["one"], covers=Covers(("linear",))), "covers at its default"),
    ],
)
def test_what_has_no_pair_is_refused_before_training(make, says: str) -> None:
    with pytest.raises(UserError, match=says):
        _ = task(make()).prunable


def test_a_base_in_half_precision_keeps_it_and_trains_in_single() -> None:
    module = Net().bfloat16()
    LOW.install(module)
    pair = module.one.parametrizations.weight[0]
    assert (pair.A.dtype, module.one.weight.dtype) == (torch.float32, torch.bfloat16)


# --- beside peft


def both(path: Path, family: str, targets: list[str], head: str):
    """A task in pairs of double precision, and peft's network with the same weights and A."""
    peft = pytest.importorskip("peft")
    made = pretrained.sequence_classifier(
        pretrained.folder(path, family, head=""), config=NO_DROPOUT.get(family, {})
    )
    coordinates = LowRank(rank=3, alpha=6.0, targets=targets, whole=[head])
    problem = Task(made, pretrained.sentences(), coordinates=coordinates)
    own = problem.module()
    start = problem.init()
    with torch.no_grad():
        for name, value in own.named_parameters():
            value.copy_(start[name])
    stock = made()
    stock.load_state_dict(merged(own), strict=False)
    adapted = peft.get_peft_model(
        stock,
        peft.LoraConfig(
            r=3, lora_alpha=6, lora_dropout=0.0, target_modules=r".*(" + "|".join(
                target.removeprefix("*.") for target in targets) + ")",
            modules_to_save=[head], fan_in_fan_out=family == "gpt2",
        ),
    )  # fmt: skip
    theirs = {}
    for name, value in adapted.named_parameters():
        if not value.requires_grad:
            continue
        plain = name.removeprefix("base_model.model.")
        layer = plain.partition(".lora_")[0]
        leaf = "A" if ".lora_A." in plain else "B"
        known = (
            f"{layer}.parametrizations.weight.0.{leaf}"
            if ".lora_" in plain
            else plain.replace(".modules_to_save.default", "")
        )
        theirs[known] = value
    assert theirs.keys() == dict(own.named_parameters()).keys()
    with torch.no_grad():
        for name, value in own.named_parameters():
            theirs[name].copy_(value)
    return problem, own.double().eval(), adapted.double().eval(), theirs


NO_DROPOUT = {
    "bert": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
    "gpt2": {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0},
}


@pytest.mark.parametrize(
    ("family", "targets", "head"),
    [
        ("bert", ["*.query", "*.value", "*.intermediate.dense"], "classifier"),
        ("gpt2", ["*.c_attn", "*.c_fc"], "score"),  # Conv1D, whose weight is (in, out)
    ],
)
def test_it_computes_and_trains_what_peft_does(
    family: str, targets: list[str], head: str, tmp_path: Path
) -> None:
    problem, own, adapted, theirs = both(tmp_path / family, family, targets, head)
    inputs, labels = problem.data.sample(8, 0)
    mine = dict(own.named_parameters())
    pairs = {name for name in mine if is_of_a_pair(name)}
    assert len(pairs) == 2 * 2 * len(targets)
    assert sum(mine[n].numel() for n in pairs) == problem.dense().num_prunable
    optimizers = [
        torch.optim.AdamW(list(one.values()), lr=1e-2, weight_decay=0.1) for one in (mine, theirs)
    ]
    networks = (own, adapted)
    for _ in range(4):
        answers = [network(**inputs) for network in networks]
        torch.testing.assert_close(*answers, rtol=0, atol=1e-12)
        for answer, optimizer in zip(answers, optimizers, strict=True):
            optimizer.zero_grad()
            nn.functional.cross_entropy(answer, labels).backward()
        for name, value in mine.items():
            torch.testing.assert_close(value.grad, theirs[name].grad, rtol=0, atol=1e-12)
        for optimizer in optimizers:
            optimizer.step()
    for name, value in mine.items():
        torch.testing.assert_close(value, theirs[name], rtol=0, atol=1e-9)
    assert all(mine[name].abs().max() > 0 for name in pairs)
    with torch.no_grad():  # of the same numbers the same weights, to the bit
        for name, value in mine.items():
            theirs[name].copy_(value)
    unloaded = copy.deepcopy(adapted).merge_and_unload().state_dict()
    held = {name: value for name, value in merged(own).items() if name in unloaded}
    assert {stock_name(name) for name in mine} <= held.keys()
    assert all(torch.equal(value, unloaded[name] + 0.0) for name, value in held.items())


# --- through runs

RUN = (
    *SMALL, "record=local", "coordinates=low_rank", "coordinates.rank=2", "coordinates.alpha=2",
    "coordinates.targets=[linear1]", "coordinates.whole=[output]", "train.optimizer.lr=0.05",
    "train.shrink_to=20it", "pruner.rounds=2", "pruner.scope=layerwise", "control=reinit",
)  # fmt: skip


def results(outputs: Path) -> list[dict]:
    [folder] = folders(outputs)
    timed = ("seconds", "search_seconds")
    found = rows(folder / "rounds.jsonl")
    return [{k: v for k, v in row.items() if k not in timed} for row in found]


def test_magnitude_pruning_goes_over_adapters(tmp_path: Path) -> None:
    said = lth_run(*RUN, f"paths.outputs={tmp_path}")
    assert said.status == 0, said.err
    tickets = [row for row in results(tmp_path) if row["arm"] == "ticket"]
    num = tickets[0]["num_prunable"]
    assert tickets[0]["num_kept"] == num == 2 * (64 + 8)
    assert [row["num_kept"] for row in tickets[1:]] == [round(num * 0.8), round(num * 0.64)]
    [folder] = folders(tmp_path)
    first, last = (load_file(folder / f"tickets/round-0{n}.safetensors") for n in (0, 2))
    assert first["mask.linear1.weight"].shape == (8, 64)
    assert torch.equal(first["weights.linear1.weight"], last["weights.linear1.weight"])


@pytest.mark.slow
def test_a_killed_run_over_adapters_ends_the_same(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = (*RUN, "train.shrink_to=200it", "train.checkpoint_minutes=0.0005")
    assert lth_run(*words, f"paths.outputs={whole}").status == 0
    run = lth_run_forked(*words, f"paths.outputs={killed}", logs=tmp_path)
    while run.is_running and not list(killed.glob("store/drafts/*/checkpoint*")):
        time.sleep(0.01)
    run.kill()
    lth_run_forked(*words, f"paths.outputs={killed}", logs=tmp_path).finish()
    assert results(killed) == results(whole)
