"""A training that is dense until its mask stands still: the early bird, without the dense rest."""

from __future__ import annotations

import functools
import logging

import pytest
import torch

import command
import small
from lth_runner.allocate import Channels, Global
from lth_runner.masking import EarlyBirdStop, ScalePenalty, Static
from lth_runner.schedule import Iterations
from lth_runner.score import NormScale
from lth_runner.search import EarlyBird, Learned
from lth_runner.training.job import Job, Slot
from lth_runner.training.learning_rate import Constant
from lth_runner.training.loop import Loop
from lth_runner.training.train import replay
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from second_proofs import mostly_slow

HALF = Iterations(0.5)
SGD = functools.partial(torch.optim.SGD, lr=0.1, weight_decay=1e-3)  # no state to carry on
EPOCH = "6it"
KINDS = {
    "channels": {"allocate": Channels(), "unit": "channels", "penalty": 1e-2, "distance": 0.4},
    "weights": {"allocate": Global(), "unit": "weights", "distance": 0.3},
}
kinds = pytest.mark.parametrize("kind", KINDS)


def rule(kind: str, **options) -> EarlyBirdStop:
    return EarlyBirdStop(
        **{"schedule": HALF, "window": 3, "every": EPOCH, **KINDS[kind], **options}
    )


def job(masking) -> Job:
    task = small.task(model=small.convolutional)
    return Job(task, Learned(retrain=False).propose(task, []), masking)


def recipe(**changes):
    return small.recipe(optimizer=SGD, **changes)


def same(one, other) -> bool:
    return states.fingerprint(one) == states.fingerprint(other)


@pytest.mark.slow
@kinds
def test_with_plain_sgd_it_is_the_searchs_ticket_bit_for_bit(kind, tmp_path):
    options = KINDS[kind]
    trainer = small.trainer(tmp_path, recipe=recipe())
    search = EarlyBird(
        NormScale(), options["allocate"], HALF, options["distance"], 3, unit=options["unit"]
    )
    penalty = ScalePenalty(options.get("penalty", 0.0))
    problem = job(penalty)
    [dense] = trainer.fit([problem])
    ticket = search.propose(problem.task, [dense])
    assert 12 < ticket.start.step < 40
    [other] = trainer.fit([Job(problem.task, ticket, penalty, Slot(1))])
    [found] = trainer.fit([job(rule(kind))])
    assert found.mask == other.mask == ticket.mask
    assert same(found.weights, other.weights)
    assert int(found.masking_at(40)["found"]) == ticket.start.step
    assert same(found.at(ticket.start.step), ticket.masked)  # the dense training up to there
    assert not same(found.weights, dense.weights)


@kinds
@pytest.mark.parametrize("killed", mostly_slow([0, 7, 13, 20, 33], [13]))
def test_killed_and_continued_is_the_same_bit_for_bit(kind, killed):
    problem = job(rule(kind))
    whole = replay(problem, small.recipe(), None, 40)
    half = replay(problem, small.recipe(), None, killed)
    continued = replay(problem, small.recipe(), half, 40)
    for part in ("weights", "optimizer", "masking"):
        assert same(getattr(whole, part), getattr(continued, part))
    assert int(whole.masking["found"]) > 0


@kinds
def test_it_is_dense_until_it_is_found_and_holds_its_mask_from_there_on(kind):
    loop, masks = Loop(job(rule(kind)), recipe(), None), []
    while loop.step < 40:
        loop.backward()
        loop.update()
        masks.append(loop.live.mask())
        assert same(loop.weights(), masks[-1](loop.weights()))
    found = int(loop.checkpoint().masking["found"])
    assert found % 6 == 0
    assert all(mask.density == 1 for mask in masks[: found - 1])
    assert len({mask.fingerprint for mask in masks[found - 1 :]}) == 1
    assert masks[-1].density < 1
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in loop.model.modules()
    )


def test_masks_that_never_settle_are_told_and_the_network_stays_dense(caplog):
    with caplog.at_level(logging.WARNING):
        ended = replay(job(rule("weights", window=7)), small.recipe(), None, 40)
    assert "no early-bird ticket: until 100% no 7 masks in a row were within 0.3" in caplog.text
    assert all(bool(ended.masking[n].all()) for n in ended.masking if n.startswith("mask."))
    caplog.clear()
    early = replay(job(rule("weights", distance=1.0, until="17it")), small.recipe(), None, 40)
    assert int(early.masking["found"]) == -1  # the third mask would be that of step 18


def test_the_optimizer_goes_on_with_what_the_dense_steps_left_it():
    problem = job(rule("weights"))
    found = int(replay(problem, small.recipe(), None, 40).masking["found"])
    ours, dense = (replay(j, small.recipe(), None, found) for j in (problem, job(Static())))
    assert any(value.any() for value in ours.optimizer.values())
    assert same(ours.optimizer, dense.optimizer)


def test_a_sparse_ticket_is_held_still():
    task = small.task(model=small.convolutional)
    kept = {name: torch.rand(value.shape) < 0.5 for name, value in task.dense().items()}
    live = rule("weights").install(task.module(), kept, 0)
    assert type(live) is type(Static().install(task.module(), kept, 0))


def test_what_cannot_be_had_is_refused():
    for options, why in (
        ({"window": 1}, r"pruner\.window=1"),
        ({"unit": "filters"}, r"pruner\.unit='filters'.*channels"),
        ({"distance": 2}, r"pruner\.distance=2"),
        ({"every": "1ep"}, "knows no epochs"),
        ({"until": "2ep"}, r"pruner\.until=2ep.*knows no epochs"),
        ({"penalty": -1.0}, r"pruner\.penalty=-1"),
    ):
        with pytest.raises(UserError, match=why):
            rule("weights", **options)
    problem = small.task()
    with pytest.raises(UserError, match="leaves no layer"):
        rule("weights", allocate=Global(exclude=["*"])).install(
            problem.module(), problem.dense(), 0
        )
    with pytest.raises(UserError, match="no batch or group norm"):
        Learned(demands=NormScale()).check(problem, small.recipe().clock(6), Constant())
    plain = Job(problem, Learned(retrain=False).propose(problem, []), rule("weights"))
    with pytest.raises(UserError, match="no batch or group norm"):
        replay(plain, small.recipe(), None, 1)


def test_as_a_pruner_it_is_one_training(tmp_path):
    said = command.lth_run(
        *command.SMALL, "record=local", f"paths.outputs={tmp_path}", "pruner=early_bird_stop",
        "model.norm=batch", "model.widths=[12,8]", "pruner.distance=1", "pruner.every=10%",
        "pruner.sparsity=0.5", "pruner.rate=null", "pruner.rounds=null",
    )  # fmt: skip
    assert said.status == 0, said.err
    [folder] = command.folders(tmp_path)
    [row] = command.rows(folder / "rounds.jsonl")
    density = row["layer_density"]
    assert density["linear1.weight"] * 12 + density["linear2.weight"] * 8 == pytest.approx(10)
    assert density["output.weight"] == 1
