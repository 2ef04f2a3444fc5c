"""What every score keeps to, whatever it measures."""

from __future__ import annotations

import functools

import pytest
import torch
from score_cases import SHAPE, doubles, flat, images, some_mask, task, three_samples

from lth_runner import score as scores
from lth_runner.problem import models
from lth_runner.problem.data import Data
from lth_runner.problem.requirements import check
from lth_runner.problem.task import Task
from lth_runner.values import state as states
from lth_runner.values.errors import UserError

FREE = [
    scores.Magnitude(),
    scores.Random(),
    scores.Synflow(),
    *[scores.MaskCriterion(c, same_sign=s) for c, s in (("movement", True), ("large_init", False))],
    scores.MaskCriterion("large_init_large_final"),
    scores.FilterNorm(),
]
FED = [
    scores.Snip(batch_size=20),
    scores.Snip(num_batches=2, batch_size=20, absolute="before", batch_statistics=True),
    scores.Force(batch_size=20),
    scores.GraspIterated(batch_size=20),
    scores.GradientMagnitude(batch_size=20),
    scores.Grasp(samples_per_class=6),
    scores.Grasp(samples_per_class=6, num_batches=2, order="by_class", fresh_linear=True),
    scores.Prospr(num_steps=2, batch_size=20),
    scores.Prospr(num_steps=1, batch_size=20, first_order=True, new_data_in_inner=True),
    scores.Obd(num_batches=1, batch_size=5),
    scores.Obd("hutchinson", num_batches=1, batch_size=20, num_draws=2),
    scores.Obd("fisher", num_batches=1, batch_size=8),
    scores.Wanda(batch_size=20),
]
SEEDED = [*FED, scores.Random()]
CASES = [(m, s) for m in ("mlp", "resnet") for s in (*FREE, *FED)]
CASES += [("resnet", scores.NormScale())]
NAMES = [f"{m}-{s}" for m, s in CASES]


@pytest.mark.parametrize(("model", "score"), CASES, ids=NAMES)
def test_a_score_is_finite_shaped_like_the_weights_and_leaves_no_trace(model, score):
    problem = task(model)
    weights, mask = problem.init(7), some_mask(problem)
    before, random = states.fingerprint(weights), torch.get_rng_state()
    found = score(problem, weights, mask)
    assert states.fingerprint(weights) == before
    assert not any(value.requires_grad for value in weights.values())
    assert torch.equal(torch.get_rng_state(), random)
    assert list(found) == list(problem.prunable)
    for name, value in found.items():
        assert value.shape == mask[name].shape
        assert value.dtype in (torch.float32, torch.float64)
        assert value.device.type == "cpu"
        assert not value.requires_grad
        assert value.isfinite().all()
    assert len(flat(found).unique()) > 10  # it tells weights apart


@pytest.mark.parametrize("score", [*FREE, *FED], ids=str)
def test_the_same_seed_gives_the_same_bits(score):
    weights, mask = task("mlp").init(7), some_mask(task("mlp"))
    again = Task(task("mlp").model, images(), 0)
    one, two = (score(problem, weights, mask) for problem in (task("mlp"), again))
    assert states.fingerprint(one) == states.fingerprint(two)


@pytest.mark.parametrize("score", SEEDED, ids=str)
def test_another_seed_draws_other_samples_or_numbers(score):
    weights, mask = task("mlp").init(7), some_mask(task("mlp"))
    one, two = (score(task("mlp", seed=seed), weights, mask) for seed in (0, 1))
    assert states.fingerprint(one) != states.fingerprint(two)


@pytest.mark.parametrize("score", FREE, ids=str)
def test_a_data_free_score_ignores_the_data(score):
    weights, mask = task("resnet").init(7), some_mask(task("resnet"))
    one, two = (score(task("resnet", data=d), weights, mask) for d in ("images", "others"))
    assert states.fingerprint(one) == states.fingerprint(two)


@pytest.mark.parametrize("score", FED, ids=str)
def test_the_other_scores_do_not(score):
    weights, mask = task("mlp").init(7), some_mask(task("mlp"))
    one, two = (score(task("mlp", data=d), weights, mask) for d in ("images", "others"))
    assert states.fingerprint(one) != states.fingerprint(two)


@pytest.mark.parametrize("score", FED, ids=str)
def test_half_precision_weights_are_scored_in_full(score):
    problem, mask = task("mlp"), some_mask(task("mlp"))
    half = {n: v.bfloat16() for n, v in problem.init(7).items()}
    coarse, fine = (
        score(problem, given, mask) for given in (half, {n: v.float() for n, v in half.items()})
    )
    assert states.fingerprint(coarse) == states.fingerprint(fine)


@pytest.mark.parametrize("score", [scores.Snip(batch_size=20), scores.Grasp()], ids=str)
def test_double_precision_weights_keep_theirs(score):
    problem = task("resnet")
    found = score(problem, doubles(problem.init(7)), problem.dense())
    rough = score(problem, problem.init(7), problem.dense())
    assert flat(found).dtype == torch.float64
    torch.testing.assert_close(flat(rough).double(), flat(found), rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize(
    "score",
    [
        scores.Snip(batch_size=20),
        scores.Grasp(),
        scores.Synflow(),
        scores.Obd(num_batches=1, batch_size=4),
        scores.FilterNorm(),
        scores.Wanda(batch_size=20),
    ],
    ids=str,
)
def test_a_score_of_the_masked_network_does_not_see_what_is_removed(score):
    problem = task("mlp")
    weights, mask = problem.init(7), some_mask(problem)
    other = {n: torch.where(mask[n], w, 9.0) if n in mask else w for n, w in weights.items()}
    one, two = (score(problem, given, mask) for given in (weights, other))
    assert states.fingerprint(one) == states.fingerprint(two)


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (lambda: scores.Snip(absolute="never"), r"score\.absolute='never'.*after, before"),
        (lambda: scores.Snip(num_batches=0), r"score\.num_batches=0 .*at least 1"),
        (lambda: scores.Snip(batch_size=2.5), r"score\.batch_size=2\.5 must be a whole number"),
        (lambda: scores.Force(batch_size=True), r"score\.batch_size=True"),
        (lambda: scores.GraspIterated(num_batches=-1), r"score\.num_batches=-1"),
        (lambda: scores.GradientMagnitude(num_batches=0), r"score\.num_batches=0"),
        (lambda: scores.Grasp(temperature=0.0), r"score\.temperature=0\.0 .*above 0"),
        (lambda: scores.Grasp(samples_per_class=0), r"score\.samples_per_class=0"),
        (lambda: scores.Grasp(order="class"), r"score\.order='class': did you mean by_class"),
        (lambda: scores.Grasp(num_batches=0), r"score\.num_batches=0"),
        (lambda: scores.Prospr(num_steps=-1), r"score\.num_steps=-1 .*at least 0"),
        (lambda: scores.Prospr(inner_lr=-0.1), r"score\.inner_lr=-0\.1"),
        (lambda: scores.Prospr(inner_momentum=1), r"score\.inner_momentum=1 .*below 1"),
        (lambda: scores.Obd("fischer"), r"score\.estimator='fischer': did you mean fisher"),
        (lambda: scores.Obd(num_draws=0), r"score\.num_draws=0"),
        (lambda: scores.MaskCriterion("larg_final"), r"score\.criterion='larg_final'.*large_final"),
        (lambda: scores.FilterNorm(order=0), r"score\.order=0"),
    ],
)
def test_an_impossible_option_is_refused_by_its_key(score, told):
    with pytest.raises(UserError, match=rf"pruner\.search\.{told}"):
        score()


@pytest.mark.parametrize(
    ("score", "told"),
    [
        (scores.Snip(batch_size=4), r"batch_size=4 make 4 samples, but there are 3"),
        (scores.Force(num_batches=2, batch_size=2), r"num_batches=2 .* make 4 samples"),
        (scores.GraspIterated(), r"make 128 samples"),
        (scores.GradientMagnitude(), r"make 128 samples"),
        (scores.Obd(), r"make 1024 samples"),
        (scores.Prospr(batch_size=1, new_data_in_inner=True), r"num_batches=4 .* make 4 samples"),
        (scores.Grasp(samples_per_class=2), r"samples_per_class=2, but class 1 has 1"),
        (scores.Grasp(samples_per_class=1, num_batches=2), r"give at most 1"),
        (scores.NormScale(), r"no batch or group norm"),
    ],
    ids=str,
)
def test_what_the_task_cannot_give_is_refused_before_and_at_the_call(score, told):
    problem = three_samples()
    for attempt in (
        lambda: check(score, problem),
        lambda: score(problem, problem.init(), problem.dense()),
    ):
        with pytest.raises(UserError, match=told):
            attempt()


def test_a_batch_of_one_has_no_batch_statistics():
    with pytest.raises(UserError, match=r"batch_size=1 has no batch statistics"):
        check(scores.Snip(batch_size=1, batch_statistics=True), task("resnet"))
    check(scores.Snip(batch_size=1), task("resnet"))
    check(scores.Snip(batch_size=1, batch_statistics=True), task("mlp"))


def test_a_score_without_demands_passes_the_check():
    check(scores.Magnitude(), three_samples())


def test_data_cut_short_for_trying_out_give_what_they_have():
    flat_norm = functools.partial(models.mlp, **SHAPE, widths=(9,), norm="batch")
    problem = Task(flat_norm, images().limited(21))
    for score in (
        scores.Snip(num_batches=3),
        scores.Snip(num_batches=3, batch_size=20, batch_statistics=True),  # 20 and 1
        scores.Grasp(samples_per_class=10, num_batches=7),
        scores.Prospr(num_steps=2, batch_size=15, new_data_in_inner=True),
    ):
        found = score(problem, problem.init(), problem.dense())
        assert flat(found).isfinite().all()
        assert flat(found).abs().max() > 0


def test_no_score_depends_on_float_inputs():
    whole = (torch.arange(240).view(60, 4) % 7).to(torch.uint8)
    split = (whole, torch.arange(60) % 3)
    problem = Task(lambda: torch.nn.Linear(4, 3), Data.from_tensors(split, split, validation=0))
    found = scores.Obd(num_batches=1, batch_size=8)(problem, problem.init(), problem.dense())
    assert flat(found).isfinite().all()
