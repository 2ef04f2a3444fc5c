"""Partial-LoRA: random rows and columns of adapters, as many as a ratio or a task asks for."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import small
from command import SMALL, folders, lth_run, rows
from fake_past import data
from lth_runner.control import EvenRatios, ShuffledRatios, Targeted
from lth_runner.masking import Static
from lth_runner.problem import LowRank, SquaredError
from lth_runner.problem.data import Data
from lth_runner.problem.low_rank import pair_names
from lth_runner.problem.task import Task
from lth_runner.schedule import Iterations
from lth_runner.search import PartialLoRA
from lth_runner.search.outside import Outside
from lth_runner.search.partial_lora import Derived, Even, drawn, kept_lines, lines_of, singular
from lth_runner.search.rewind import Rewind
from lth_runner.search.ticket import Ticket
from lth_runner.training.job import Job
from lth_runner.training.learning_rate import Constant
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.steps import Clock


class Net(nn.Module):
    """Three matrices of one shape, whose spectra differ, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)
        with torch.no_grad():
            self.two.weight[:, 0] *= 9  # almost of rank 1
            self.three.weight.copy_(torch.linalg.qr(self.three.weight)[0])  # a flat spectrum

    def forward(self, inputs):
        found = inputs
        for layer in (self.one, self.two, self.three):
            found = layer(found).relu()
        return self.head(found)


WEIGHTS = ("one.weight", "two.weight", "three.weight")
LOW = LowRank(rank=2, alpha=4.0, targets=["one", "two", "three"], whole=["head"])
CLOCK = Clock(5, 20)


def task(**changes) -> Task:
    return Task(Net, data(), coordinates=LOW, **changes)


def uneven(problem: Task) -> Mask:
    lines = lines_of(problem.dense())
    for weight, num in zip(WEIGHTS, (2, 3, 5), strict=True):
        lines |= dict.fromkeys(pair_names(weight), num)
    return drawn(problem.dense(), lines, 0)


@pytest.mark.parametrize(("sparsity", "kept"), [(0.5, 3), (1 / 3, 4)])
def test_even_ratios_keep_the_same_share_of_all_rows_and_columns(sparsity, kept) -> None:
    problem, search = task(), PartialLoRA(Even(Iterations(sparsity)), dense=False)
    search.check(problem, CLOCK, Constant())
    ticket = search.propose(problem, [])
    assert set(kept_lines(ticket.mask, "").values()) == {kept}
    assert ticket.mask.num_kept == round((1 - sparsity) * problem.dense().num_prunable)
    reached = problem.stock_names(ticket.mask)
    assert all(int(reached[weight].sum()) == kept**2 for weight in WEIGHTS)  # rho = q^2
    assert not torch.equal(reached["one.weight"], reached["two.weight"])
    other = search.propose(problem.with_seed(1), [])
    assert other.mask != ticket.mask
    for name, value in ticket.masked.items():
        if name in ticket.mask:
            assert not value[~ticket.mask[name]].any()


def dense_of(problem: Task, folder: Path, length: str = "120it"):
    trainer = small.trainer(folder, recipe=small.recipe(batch_size=10, length=length))
    [dense] = trainer.fit([Job(problem, Ticket(problem.dense(), problem.init()), Static())])
    return dense


def test_densities_are_derived_jointly_from_what_the_trained_network_needs(tmp_path) -> None:
    problem = task()
    dense, ratios = dense_of(problem, tmp_path), Derived(tau=0.9, num_samples=40)
    found = ratios.densities(problem, dense.weights)
    assert all(0 < value <= 1 for value in found.values())
    assert found["two.weight"] < found["three.weight"]  # a few of its elements hold its energy
    less = Derived(tau=0.4, num_samples=40).densities(problem, dense.weights)
    assert all(less[name] <= found[name] for name in found)
    assert sum(less.values()) < sum(found.values())
    whole = Derived(tau=1.0, num_samples=40).densities(problem, dense.weights)
    assert all(found[name] <= whole[name] for name in found)
    lines = ratios(problem, [dense])
    for weight, value in found.items():
        assert {lines[n] for n in pair_names(weight)} == {max(1, round(6 * math.sqrt(value)))}
    search = PartialLoRA(ratios)
    search.check(problem, CLOCK, Constant())
    assert kept_lines(search.propose(problem, [dense]).mask, "") == lines


@pytest.mark.parametrize("num", [1, 64, 70, 128, 130, 1000])
def test_as_many_samples_are_asked_as_were_named_or_all(num: int) -> None:
    from lth_runner.search.partial_lora.ratios import _samples

    inputs, labels = torch.zeros(200, 6), torch.arange(200) % 3
    samples = Data.from_tensors((inputs, labels), (inputs, labels), validation=0)
    problem = replace(task(), data=samples)
    batches = _samples(problem, num)
    assert sum(len(labels) for _, labels in batches) == min(num, problem.data.num_train)
    assert [len(inputs) for inputs, _ in batches] == [len(labels) for _, labels in batches]


def test_a_kept_network_is_as_accurate_as_asked_and_a_sparser_one_is_not(tmp_path) -> None:
    from lth_runner.search.partial_lora.ratios import _Thinned

    problem = task()
    trained = dense_of(problem, tmp_path).weights
    thinned = _Thinned.of(problem, trained, 40)
    whole = {name: torch.ones(6, 6, dtype=torch.bool) for name in WEIGHTS}
    inputs, labels = thinned.batches[0]
    right = problem.outputs(trained, inputs).argmax(1).eq(labels).float().mean()
    assert thinned.accuracy(None) == thinned.accuracy(whole) == pytest.approx(float(right))
    sizes = [sum(int(k.sum()) for k in thinned.masks(e).values()) for e in (0.1, 0.5, 0.9, 1.0)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 3 * 36
    u, s, v = thinned.spectra["two.weight"]
    torch.testing.assert_close(u @ torch.diag(s) @ v, problem.merged(problem.init())["two.weight"])


def test_controls_keep_as_many_entries_in_all() -> None:
    problem = task()
    ticket = Ticket(uneven(problem), problem.init())
    own = kept_lines(ticket.mask, "")
    arms = {c: c(problem, ticket, [], 1) for c in (EvenRatios(), ShuffledRatios(), Targeted())}
    assert all(arm.mask.num_kept == ticket.mask.num_kept for arm in arms.values())
    even, shuffled, targeted = (kept_lines(arm.mask, "") for arm in arms.values())
    assert set(even.values()) == {3, 4}
    assert shuffled != own
    assert sorted(shuffled.values()) == sorted(own.values())
    assert targeted == own
    assert arms[Targeted()].mask == Targeted()(problem, ticket, [], 2).mask
    a, b = pair_names("two.weight")
    u, s, v = singular(problem)["two.weight"]
    top = (v[:2].square() * s[:2, None].square()).sum(0)
    assert set(top.topk(3).indices.tolist()) == set(
        arms[Targeted()].mask[a][0].nonzero().flatten().tolist()
    )
    rows_by = (u[:, :2].square() * s[:2].square()).sum(1).topk(3).indices
    assert set(rows_by.tolist()) == set(arms[Targeted()].mask[b][:, 0].nonzero().flatten().tolist())


def test_what_it_cannot_serve_is_refused() -> None:
    search = PartialLoRA(Derived())
    plain = Task(Net, data())
    with pytest.raises(UserError, match="take coordinates=low_rank"):
        search.check(plain, CLOCK, Constant())
    with pytest.raises(UserError, match=r"SquaredError has none: take pruner.ratios=even"):
        search.check(replace(task(), objective=SquaredError()), CLOCK, Constant())
    with pytest.raises(UserError, match=r"pruner.dense=true, or pruner.ratios=even"):
        PartialLoRA(Derived(), Rewind(), dense=False).check(task(), CLOCK, Constant())
    with pytest.raises(UserError, match=r"pruner.tau=1.5: give a share"):
        Derived(tau=1.5)
    with pytest.raises(UserError, match="of 36 rows and columns only 4 would be kept"):
        PartialLoRA(Even(Iterations(0.9))).check(task(), CLOCK, Constant())
    problem = task()
    parts = Mask({n: torch.eye(*k.shape, dtype=torch.bool) for n, k in problem.dense().items()})
    with pytest.raises(UserError, match="keeps parts of them: take pruner=partial_lora"):
        Targeted()(problem, Ticket(parts, problem.init()), [], 0)
    with pytest.raises(UserError, match="has no entry for a place: take coordinates=delta"):
        Outside(None).check(problem)
    one = replace(problem, coordinates=replace(LOW, targets=["one"]))
    with pytest.raises(UserError, match="no two targets have one shape"):
        ShuffledRatios().check(one, CLOCK, Constant())


RUN = (
    *SMALL, "record=local", "model.widths=[8,8,8]", "coordinates=low_rank", "coordinates.rank=2",
    "coordinates.alpha=2", "coordinates.targets=[linear2,linear3]", "coordinates.whole=[output]",
    "pruner=partial_lora", "control=[even_ratios,shuffled_ratios,targeted]", "train.shrink_to=60it",
    "train.optimizer.lr=0.05",
)  # fmt: skip


def test_a_run_derives_its_ratios_once_and_has_its_arms_beside_it(tmp_path: Path) -> None:
    said = lth_run(*RUN, "pruner.num_samples=60", f"paths.outputs={tmp_path}")
    assert said.status == 0, said.err
    [folder] = folders(tmp_path)
    found = rows(folder / "rounds.jsonl")
    last = {row["arm"]: row for row in found if row["round"] == 1 and row["seed"] == 0}
    assert last.keys() == {"ticket", "even_ratios", "shuffled_ratios", "targeted"}
    assert len({row["num_kept"] for row in last.values()}) == 1
    assert 0 < last["ticket"]["density"] < 1
    assert list((tmp_path / "store/entries").rglob("derived-ratios-*"))
    even = lth_run(
        *RUN, "pruner.ratios=even", "pruner.sparsity=0.5", "control=none", "name=even",
        f"paths.outputs={tmp_path}",
    )  # fmt: skip
    assert even.status == 0, even.err
    [folder] = folders(tmp_path, "even")
    first, second = (r for r in rows(folder / "rounds.jsonl") if r["seed"] == 0)
    assert (first["density"], second["density"]) == (1.0, 0.5)
    assert first["reused"]
