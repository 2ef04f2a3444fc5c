"""A mask that closes in while the network trains, killed or not."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

import small
from lth_runner import state as states
from lth_runner.allocate import Global, count
from lth_runner.engine import replay
from lth_runner.errors import UserError
from lth_runner.loop import Loop
from lth_runner.masking.gradual import Gradual
from lth_runner.schedule import Iterations
from lth_runner.search import Once
from lth_runner.train import Job


def job(model=small.perceptron, **options):
    task = small.task(model=model)
    rule = Gradual(Global(), Iterations(0.8, 4, "cubic"), **options)
    return Job(task, Once().propose(task, []), rule)


def densities(job):
    """The mask after each of the forty steps."""
    loop, found = Loop(job, small.recipe(), None), []
    while loop.step < loop.clock.total:
        loop.backward()
        loop.update()
        found.append(loop.outcome().mask)
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
    mask = loop.outcome().mask
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
    assert Once().propose(trained.job.task, [trained]) is None


def test_impossible_stretches_and_densities_are_refused():
    for options in ({"begin": 0.9}, {"end": 1.5}, {"begin": -0.1}):
        with pytest.raises(UserError, match="shares of the training"):
            job(**options)
    problem = small.task()
    rule = Gradual(Global(exclude=["*"]), Iterations(0.8))
    with pytest.raises(UserError, match="leaves no layer"):
        rule.install(problem.module(), problem.dense(), 0)
