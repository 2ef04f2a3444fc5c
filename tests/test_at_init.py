"""Pruning before training: what is scored, what is trained, and what is refused."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from command import SMALL, folders, lth_run, rows
from fake_past import CLOCK, Fake, drawn, equal, small_task
from lth_runner.allocate import ErdosRenyi, Global
from lth_runner.schedule import Geometric, Iterations
from lth_runner.score import Force, Magnitude, Random, Snip, Synflow
from lth_runner.search import AtInit, Iterative, KeptScores
from lth_runner.search.rewind import Rewind
from lth_runner.search.search import warn_of_empty_layers
from lth_runner.training.learning_rate import Constant
from lth_runner.values.errors import UserError
from lth_runner.values.mask import Mask
from lth_runner.values.state import State


@dataclass(frozen=True)
class Seen:
    """Scores drawn anew for each mask; remembers what it was shown."""

    shown: list[tuple[State, Mask]] = field(default_factory=list, compare=False)

    def __call__(self, task, weights, mask):
        self.shown.append((weights, mask))
        return {name: drawn(task, "score", mask.num_kept)[name] for name in mask}


def at_init(score=None, *, sparsity=0.8, iterations=1, **options):
    return AtInit(score or Magnitude(), Global(), Iterations(sparsity, iterations), **options)


def rounds(search, task):
    past = []
    while (ticket := search.propose(task, past)) is not None:
        past.append(Fake(task, len(past), ticket))
    return past


def test_one_dense_training_and_one_ticket():
    task, search = small_task(), at_init()
    past = rounds(search, task)
    assert [trained.mask.num_kept for trained in past] == [81, 16]
    assert search.num_rounds == 2
    assert past[0].ticket.mask == task.dense()
    assert equal(past[0].ticket.weights, task.init())


def test_all_sparsities_and_pruners_share_one_dense_training():
    task = small_task()
    first = [
        search.propose(task, [])
        for search in (
            at_init(),
            at_init(Synflow(), sparsity=0.5, iterations=9, rewind=Rewind(step="2ep")),
            Iterative(Magnitude(), Global(), Geometric(rate=0.2, rounds=3), Rewind()),
        )
    ]
    assert len({ticket.mask for ticket in first}) == 1
    assert all(equal(ticket.weights, first[0].weights) for ticket in first)
    assert {(ticket.start.step, ticket.start.order) for ticket in first} == {(0, 0)}


@pytest.mark.parametrize(("step", "at"), [("0it", 0), ("2ep", 100)])
def test_the_weights_of_the_step_are_scored_and_trained(step, at):
    task, seen = small_task(), Seen()
    search = at_init(seen, rewind=Rewind(step=step))
    past = rounds(search, task)
    early = past[0].at(at)
    assert equal(seen.shown[0][0], early)
    assert equal(past[1].ticket.weights, early)
    assert past[1].ticket.start.step == at
    assert set(past[0].asked) == {at}
    assert list(search.snapshots(CLOCK)) == [at]


@pytest.mark.parametrize("kept", [False, True])
def test_the_weights_of_one_step_may_be_scored_and_those_of_another_trained(kept):
    task, seen = small_task(), Seen()
    options = {"rewind": Rewind(step="1ep"), "score_step": "4ep"}
    search = at_init(seen, **options)
    if kept:
        search = KeptScores(seen, Global(), Iterations(0.8), **options)
    past = rounds(search, task)
    assert equal(seen.shown[0][0], past[0].at(200))
    assert equal(past[1].ticket.weights, past[0].at(50))
    assert past[1].ticket.start.step == 50
    assert list(search.snapshots(CLOCK)) == [50, 200]
    end = replace(search, score_step="100%")
    assert list(end.snapshots(CLOCK)) == [50, 500]
    with pytest.raises(UserError, match=r"pruner\.score_step=11ep is step 550, past the end"):
        replace(search, score_step="11ep").check(task, CLOCK, Constant())
    with pytest.raises(UserError, match=r"pruner\.score_step=4ep needs the dense training"):
        replace(search, dense=False, rewind=Rewind()).check(task, CLOCK, Constant())


def test_a_fresh_draw_may_be_trained_under_the_mask_of_the_scored_one():
    task = small_task()
    one, other = (
        rounds(at_init(rewind=Rewind(weights=weights)), task)[1].ticket
        for weights in ("rewind", "reinit")
    )
    assert one.mask == other.mask
    assert not torch.equal(one.weights["hidden.weight"], other.weights["hidden.weight"])
    assert other.start == one.start


def test_masks_on_the_way_are_nested_and_scored_masked():
    seen, task = Seen(), small_task()
    search = at_init(seen, iterations=4)
    last = search.mask(task, task.init())
    masks = [mask for _, mask in seen.shown]
    assert [mask.num_kept for mask in [*masks, last]] == [81, 54, 36, 24, 16]
    assert all(after <= before for before, after in zip(masks, [*masks[1:], last], strict=True))
    assert all(equal(weights, mask(task.init())) for weights, mask in seen.shown)


def test_regrowing_scores_whole_weights_and_brings_some_back():
    seen, task = Seen(), small_task()
    search = at_init(seen, iterations=4, regrow=True)
    last = search.mask(task, task.init())
    masks = [*(mask for _, mask in seen.shown), last]
    assert [mask.num_kept for mask in masks] == [81, 54, 36, 24, 16]
    assert not masks[3] <= masks[2]
    assert all(equal(weights, task.init()) for weights, _ in seen.shown)


def test_force_regrows_where_iterative_snip_cannot():
    task = small_task()
    kept = {"iterations": 5, "sparsity": 0.9}
    force = at_init(Force(batch_size=16), regrow=True, **kept)
    path = [
        replace(force, schedule=Prefix(force.schedule, k)).mask(task, task.init())
        for k in range(1, 6)
    ]
    assert any(not after <= before for before, after in pairwise(path))
    snip = at_init(Snip(batch_size=16), **kept)
    path = [
        replace(snip, schedule=Prefix(snip.schedule, k)).mask(task, task.init())
        for k in range(1, 6)
    ]
    assert all(after <= before for before, after in pairwise(path))


@dataclass(frozen=True)
class Prefix:
    schedule: Iterations
    length: int

    def __call__(self):
        return self.schedule()[: self.length]


def test_random_masks_of_one_seed_are_nested_from_sparsity_to_sparsity():
    task = small_task()
    outer, inner = (at_init(Random(), sparsity=s).mask(task, task.init()) for s in (0.5, 0.9))
    assert inner <= outer
    assert inner != at_init(Random(), sparsity=0.9).mask(small_task(1), task.init())


def test_without_the_dense_training_the_ticket_is_all_there_is():
    task, search = small_task(), at_init(dense=False)
    (only,) = rounds(search, task)
    assert search.num_rounds == 1
    assert list(search.snapshots(CLOCK)) == []
    assert only.ticket.mask == at_init().mask(task, task.init())
    assert equal(only.ticket.weights, task.init())
    (fresh,) = rounds(at_init(dense=False, rewind=Rewind(weights="reinit")), task)
    assert fresh.ticket.mask == only.ticket.mask
    assert not equal(fresh.ticket.weights, task.init())


@pytest.mark.parametrize(
    "option",
    [
        {"step": "1ep"},
        {"weights": "keep"},
        {"only": ["output"]},
        {"bn": "keep"},
        {"optimizer": "restore"},
        {"lr_clock": "final"},
    ],
)
def test_weights_that_only_a_dense_training_has_are_refused_without_it(option):
    (name,) = option
    with pytest.raises(UserError, match=rf"rewind\.{name}=.*needs the dense training"):
        at_init(dense=False, rewind=Rewind(**option)).check(small_task(), CLOCK, Constant())
    at_init(rewind=Rewind(**option)).check(small_task(), CLOCK, Constant())


def iterative(score, allocate=None, schedule=None):
    return Iterative(score, allocate or Global(), schedule or Geometric(0.5, 0.2), Rewind())


@pytest.mark.parametrize("make", [at_init, iterative])
def test_a_search_asks_its_score_and_its_budget_before_any_training(make):
    with pytest.raises(UserError, match="training samples"):
        make(Snip(batch_size=1000)).check(small_task(), CLOCK, Constant())
    search = make(Random())
    with pytest.raises(UserError, match="excluded layers"):
        replace(search, allocate=ErdosRenyi(exclude=["hidden"])).check(
            small_task(), CLOCK, Constant()
        )
    with pytest.raises(UserError, match=r"rewind\.step=99ep"):
        replace(search, rewind=Rewind(step="99ep")).check(small_task(), CLOCK, Constant())
    search.check(small_task(), CLOCK, Constant())


@dataclass(frozen=True)
class OutputLast:
    """Scores that empty the output layer first."""

    def __call__(self, task, weights, mask):
        return {n: torch.full(k.shape, float(n != "output.weight")) for n, k in mask.items()}


def test_of_many_collapsed_layers_a_few_are_named(caplog):
    names = [f"layer{number}.weight" for number in range(40)]
    with caplog.at_level(logging.WARNING):
        warn_of_empty_layers(Mask({name: torch.zeros(2, 2, dtype=torch.bool) for name in names}))
    assert "layer3.weight and 36 more: the network is cut there" in caplog.text


@pytest.mark.parametrize("make", [at_init, iterative])
def test_a_collapsed_layer_is_told_and_can_be_avoided(make, caplog):
    task = small_task()
    with caplog.at_level(logging.WARNING):
        past = rounds(make(OutputLast()), task)
    assert "nothing is left of output.weight" in caplog.text
    assert not past[-1].mask["output.weight"].any()
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        rounds(replace(make(OutputLast()), allocate=Global(avoid_collapse=True)), task)
    assert not caplog.text


@pytest.mark.parametrize("pruner", ["magnitude_at_init", "sparsegpt"])
def test_a_ticket_that_is_not_retrained_is_measured_as_another_is_before_its_training(
    pruner: str, tmp_path: Path
) -> None:
    words = [*(word for word in SMALL if not word.startswith(("probe=", "control="))),
             f"pruner={pruner}", "control=reinit", "probe=before", "probe.accuracy.splits=[test]",
             f"paths.outputs={tmp_path}"]  # fmt: skip
    words += ["pruner.search.solve.batch_size=32"] if pruner == "sparsegpt" else []
    found = {}
    for retrain in (True, False):
        said = lth_run(*words, f"pruner.retrain={retrain}", f"name=trained_{retrain}".lower())
        assert said.status == 0, said.err
        [folder] = folders(tmp_path, f"trained_{retrain}".lower())
        found[retrain] = {(r["round"], r["arm"]): r for r in rows(folder / "rounds.jsonl")}
    assert found[True][0, "ticket"]["training_key"] == found[False][0, "ticket"]["training_key"]
    for arm in ("ticket", "reinit"):
        trained, still = (found[retrain][1, arm] for retrain in (True, False))
        assert (trained["steps"], still["steps"]) == (8, 0)
        assert trained["before_loss"] == pytest.approx(still["test_loss"])
        assert trained["test_loss"] < trained["before_loss"]
        assert "before_loss" not in still
        assert "train_accuracy" not in still
    refused = lth_run(*words, "pruner.retrain=false", "pruner.dense=false")
    assert "pruner.dense=false leaves that training out" in refused.err
    refused = lth_run(*words, "probe.accuracy.splits=[tset]")
    assert "probe.accuracy.splits: 'tset': did you mean test" in refused.err
