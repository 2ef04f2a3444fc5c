"""A mask that closes in while the network trains, killed or not."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

import small
from command import SMALL, lth_run, no_training, rows
from lth_runner.allocate import Global, NOfM, count
from lth_runner.masking import SrSte, Static, StraightThrough
from lth_runner.masking.gradual import Gradual
from lth_runner.schedule import Iterations
from lth_runner.search import Learned
from lth_runner.search.rewind import Rewind
from lth_runner.training.job import Job
from lth_runner.training.loop import Loop
from lth_runner.training.train import replay
from lth_runner.values import state as states
from lth_runner.values.errors import UserError
from second_proofs import mostly_slow


def job(model=small.perceptron, **options):
    task = small.task(model=model)
    rule = Gradual(Global(), Iterations(0.8, 4, "cubic"), **options)
    return Job(task, Learned(retrain=False).propose(task, []), rule)


def densities(job):
    """The mask after each of the forty steps."""
    loop, found = Loop(job, small.recipe(), None), []
    while loop.step < loop.clock.total:
        loop.backward()
        loop.update()
        found.append(loop.live.mask())
        for name, kept in found[-1].items():
            assert not loop.weights()[name][~kept].any()
    return found


@pytest.mark.parametrize("model", [small.perceptron, small.convolutional])
def test_densities_fall_when_they_are_due_to_the_weight(model):
    masks = densities(job(model, end=0.5))
    num = masks[0].num_prunable
    wanted = [1.0] * 4 + [0.5375] * 5 + [0.3] * 5 + [0.2125] * 5 + [0.2] * 21
    assert [mask.num_kept for mask in masks] == [count(d, num) for d in wanted]
    assert all(after <= before for before, after in pairwise(masks))


def test_what_goes_is_the_smallest():
    problem = job(begin=0.5, end=0.5)
    before = replay(problem, small.recipe(), None, 20).weights
    loop = Loop(problem, small.recipe(), replay(problem, small.recipe(), None, 19))
    loop.backward()
    loop.update()
    mask = loop.live.mask()
    assert mask.num_kept == count(0.2, mask.num_prunable)
    kept = torch.cat([before[n].abs()[k] for n, k in mask.items()])
    assert int((kept > 0).sum()) == mask.num_kept
    plain = Loop(job(begin=1.0, end=1.0), small.recipe(), None)
    for _ in range(20):
        plain.backward()
        plain.update()
    size = {n: plain.weights()[n].abs() for n in mask}
    lowest = min(float(size[n][k].min()) for n, k in mask.items() if k.any())
    assert lowest > max(float(size[n][~k].max()) for n, k in mask.items())


@pytest.mark.parametrize("model", [small.perceptron, small.convolutional])
@pytest.mark.parametrize("killed", [5, 23])
def test_killed_and_continued_is_the_same_bit_for_bit(model, killed):
    problem, recipe = job(model, end=0.5), small.recipe()
    whole = replay(problem, recipe, None, 40)
    halves = replay(problem, recipe, replay(problem, recipe, None, killed), 40)
    for part in ("weights", "optimizer", "masking"):
        assert states.fingerprint(getattr(whole, part)) == states.fingerprint(getattr(halves, part))


def test_the_stored_training_has_the_mask_that_was_reached(tmp_path):
    (trained,) = small.trainer(tmp_path).fit([job()])
    assert trained.mask.num_kept == count(0.2, trained.mask.num_prunable)
    assert trained.ticket.mask.density == 1
    assert Learned(retrain=False).propose(trained.job.task, [trained]) is None


def test_impossible_stretches_and_densities_are_refused():
    for options in ({"begin": 0.9}, {"end": 1.5}, {"begin": -0.1}):
        with pytest.raises(UserError, match="shares of the training"):
            job(**options)
    problem = small.task()
    rule = Gradual(Global(exclude=["*"]), Iterations(0.8))
    with pytest.raises(UserError, match="leaves no layer"):
        rule.install(problem.module(), problem.dense(), 0)


# --- the ticket of the mask that was found

WITHIN = {
    "gradual": Gradual(Global(), Iterations(0.5, 4)),
    "dpf": StraightThrough(Global(), Iterations(0.5, 4), every="3it"),
    "sr_ste": SrSte(NOfM(), Iterations(0.5)),
}


@pytest.mark.parametrize("name", WITHIN)
def test_the_ticket_of_a_mask_found_within_a_training_is_held_while_it_trains(name, tmp_path):
    search, trainer = Learned(rescale=False), small.trainer(tmp_path)
    task = small.task()
    [found] = trainer.fit([Job(task, search.propose(task, []), WITHIN[name])])
    ticket = search.propose(task, [found])
    assert ticket.mask == found.mask
    assert ticket.mask.density < 1
    assert states.fingerprint(ticket.weights) == states.fingerprint(task.init())
    [again] = trainer.fit([Job(task, ticket, WITHIN[name])])
    [static] = trainer.fit([Job(task, ticket, Static())])
    assert again.mask == ticket.mask
    assert states.fingerprint(again.weights) == states.fingerprint(static.weights)
    assert search.propose(task, [found, again]) is None


@pytest.mark.parametrize("name", WITHIN)
def test_a_step_at_which_weights_were_gone_already_is_refused(name, tmp_path):
    task, late = small.task(), Learned(Rewind(step="30it"), rescale=False)
    [found] = small.trainer(tmp_path).fit([Job(task, late.propose(task, []), WITHIN[name])])
    with pytest.raises(UserError, match=r"back to step 30it: by then .* rewind\.step=0it"):
        late.propose(task, [found])
    kept = replace(late, rewind=Rewind(weights="keep", bn="keep")).propose(task, [found])
    assert states.fingerprint(kept.weights) == states.fingerprint(found.weights)


def test_a_step_before_anything_is_removed_can_be_gone_back_to(tmp_path):
    rule, search = replace(WITHIN["gradual"], begin=0.5), Learned(Rewind(step="10it"))
    task = small.task()
    [found] = small.trainer(tmp_path).fit([Job(task, search.propose(task, []), rule)])
    ticket = replace(search, rescale=False).propose(task, [found])
    assert states.fingerprint(ticket.weights) == states.fingerprint(found.at(10))


def test_as_a_pruner_it_says_that_no_control_runs_and_what_gives_them_a_ticket(tmp_path, caplog):
    options = [*SMALL, "record=local", "pruner=gradual", "rewind.step=25%", "pruner.begin=0.5"]
    said = lth_run(*options, f"paths.outputs={tmp_path}", "name=once")
    assert said.status == 0, said.err
    told = [line for line in caplog.messages if line.startswith("control")]
    assert len(told) == 1
    assert "none will run (reinit)" in told[0]
    assert "pruner.retrain=true" in told[0]
    assert "rewind.step=25% changes nothing here" in caplog.text
    caplog.clear()
    again = lth_run(*options, f"paths.outputs={tmp_path}", "name=twice", "pruner.retrain=true")
    assert again.status == 0, again.err
    assert "none will run" not in caplog.text
    once, twice = (rows(next(tmp_path.glob(f"{n}/*/rounds.jsonl"))) for n in ("once", "twice"))
    assert [(row["round"], row["arm"]) for row in once] == [(0, "ticket")]
    assert [(row["round"], row["arm"]) for row in twice] == [
        (0, "ticket"), (1, "ticket"), (1, "reinit"),
    ]  # fmt: skip
    assert once[0]["training_key"] == twice[0]["training_key"]
    assert [row["start_step"] for row in twice] == [0, 2, 2]


RETRAINED = (
    *SMALL,
    "control=none",
    "record=local",
    "train.shrink_to=null",
    "train.length=20it",
    "pruner.retrain=true",
)
GOING_BACK = ["pruner=gradual", "rewind.step=10it"]


@pytest.mark.parametrize(
    "words",
    [
        GOING_BACK,
        [*GOING_BACK, "rewind.only=[output]"],
        ["pruner=gradual", "control=late", "control.late.step=10it"],
        ["pruner=dpf", "pruner.every=5it", "rewind.step=6it"],
        ["pruner=sr_ste", "rewind.step=1it"],
    ],
)
def test_going_back_among_removed_weights_is_refused_before_training(words, tmp_path):
    with no_training():
        said = lth_run(*RETRAINED, *words, f"paths.outputs={tmp_path}")
    assert said.status == 2, said.err
    assert "there is no going back to step" in said.err


@pytest.mark.parametrize(
    "words",
    mostly_slow(
        [
            [*GOING_BACK, "pruner.begin=0.6", "pruner.end=0.8"],
            [*GOING_BACK, "rewind.only=[output]", "pruner.exclude=[output]"],
            [*GOING_BACK, "rewind.weights=keep"],
            ["pruner=dpf", "pruner.every=5it", "rewind.step=4it"],
        ],
        [[*GOING_BACK, "rewind.weights=keep"]],
    ),
)
def test_going_back_where_nothing_was_removed_runs(words, tmp_path):
    said = lth_run(*RETRAINED, *words, f"paths.outputs={tmp_path}")
    assert said.status == 0, said.err
